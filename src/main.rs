//! The door: arguments in, exit code out. Everything else is the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    chpipe::run(std::env::args_os())
}
