//! The process is killed at random moments of a snapshot; the next command leaves what an undisturbed run leaves.

use std::time::Duration;

use crate::{
    harness::Project,
    materialize::{query, shop},
};

/// A snapshot large enough to be hit in the middle of each of its statements.
fn project(apply: &str) -> Project {
    shop()
        .file("models/source.sql", "{{ config(materialized='table', order_by='id') }}\nselect number as id, intDiv(number + 7 * {{ var('round') }}, 50) as v from numbers(60000 + 100 * {{ var('round') }})\n")
        .file(
            "snapshots/snap.sql",
            &format!("{{% snapshot snap %}}{{{{ config(schema='snapshots', unique_key='id', strategy='check', check_cols=['v'], snapshot_apply='{apply}') }}}}\nselect * from {{{{ ref('source') }}}}\n{{% endsnapshot %}}\n"),
        )
}

fn round(project: &Project, round: u32) {
    let vars = format!("{{round: {round}}}");
    project.run(["run", "--select", "source", "--vars", &vars]).success();
}

fn snapshot(project: &Project, round: u32) {
    let vars = format!("{{round: {round}}}");
    project.run(["snapshot", "--select", "snap", "--vars", &vars]).success();
}

/// For each way to apply: kill, go on, compare with the source and the rules.
#[test]
fn a_killed_snapshot_is_finished_by_the_next_command() {
    for apply in ["replace_partition", "lightweight_delete", "rewrite"] {
        let project = project(apply);
        round(&project, 0);
        snapshot(&project, 0);
        for step in 1..=6 {
            round(&project, step);
            let vars = format!("{{round: {step}}}");
            let mut child = project
                .command()
                .args(["snapshot", "--select", "snap", "--vars", &vars])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            // Spread over the life of the process, whatever the machine's speed.
            std::thread::sleep(Duration::from_millis(u64::from(40 + 60 * step)));
            let _ = child.kill();
            child.wait().unwrap();
            snapshot(&project, step);
            let verified = project.run(["snapshot", "verify", "--select", "snap", "--vars", &vars]);
            assert_eq!(verified.code, Some(0), "{apply}, round {step}:\n{}\n{}", verified.stdout, verified.stderr);
            let differing = query(
                &project,
                "select count() from shop.source as s full join (select * from shop_snapshots.snap where dbt_valid_to is null) as o using id where s.v != o.v",
            );
            assert_eq!(differing, ["0"], "{apply}, round {step}");
            let leftovers = query(&project, "select name from system.tables where name like '%\\_\\_dbt\\_%'");
            assert_eq!(leftovers, Vec::<String>::new(), "{apply}, round {step}");
        }
    }
}
