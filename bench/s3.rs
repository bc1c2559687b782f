//! The two ends of an S3 benchmark, for bench/transform.py: a directory served as S3, and a client that only reads.
//!
//! ```text
//! s3 serve DIR                                    prints endpoint, access key and secret, serves until standard input ends
//! s3 get ENDPOINT KEY SECRET BUCKET PREFIX N      reads every object below the prefix, N at a time; prints JSON
//! s3 get-sdk ENDPOINT KEY SECRET BUCKET PREFIX N  the same, by the AWS SDK
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for one script, which reads what it prints")]

use std::{io::Read as _, path::Path, time::Instant};

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region, ResponseChecksumValidation, StalledStreamProtectionConfig},
};
use chpipe::{
    config::Secret,
    lake::{Bucket as _, LocalS3, LocalS3Options, S3Client, S3Options},
};
use futures::{StreamExt as _, stream};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", directory, ..] => serve(Path::new(directory)),
        [command @ ("get" | "get-sdk"), endpoint, key, secret, bucket, prefix, concurrency, ..] => {
            get(*command == "get-sdk", endpoint, key, secret, bucket, prefix, concurrency.parse().unwrap());
        }
        // `cargo bench` runs every benchmark without arguments.
        _ => println!("s3 serve DIR | s3 get|get-sdk ENDPOINT KEY SECRET BUCKET PREFIX N"),
    }
}

fn serve(directory: &Path) {
    let server = LocalS3::start(directory, LocalS3Options::default()).unwrap();
    let access = server.access("bronze");
    println!("{} {} {}", server.endpoint(), access.access_key_id.unwrap(), access.secret_access_key.unwrap().expose());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn get(by_sdk: bool, endpoint: &str, key: &str, secret: &str, bucket: &str, prefix: &str, concurrency: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = S3Options {
            endpoint: Some(endpoint.to_owned()),
            region: "us-east-1".to_owned(),
            path_style: true,
            no_sign_request: false,
            credentials: Some((key.to_owned(), Secret::new(secret))),
        };
        let name = bucket.to_owned();
        let bucket = S3Client::connect(&options).await.bucket(bucket);
        let keys = bucket.list_keys(prefix).await.unwrap();
        let sdk = sdk(endpoint, key, secret);
        let started = Instant::now();
        let objects = keys.len();
        let bytes: usize = stream::iter(keys)
            .map(|key| {
                let (bucket, sdk, name) = (bucket.clone(), sdk.clone(), name.clone());
                tokio::spawn(async move {
                    if by_sdk {
                        let object = sdk.get_object().bucket(name).key(key).send().await.unwrap();
                        object.body.collect().await.unwrap().into_bytes().len()
                    } else {
                        bucket.get(&key).await.unwrap().len()
                    }
                })
            })
            .buffer_unordered(concurrency)
            .map(Result::unwrap)
            .fold(0, |sum, len| async move { sum + len })
            .await;
        let seconds = started.elapsed().as_secs_f64();
        println!("{{\"objects\":{objects},\"bytes\":{bytes},\"seconds\":{seconds:.3}}}");
    });
}

/// As cheap as it can be set up.
fn sdk(endpoint: &str, key: &str, secret: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(key, secret, None, None, "benchmark"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    Client::from_conf(config.build())
}
