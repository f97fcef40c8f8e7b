// SPDX-License-Identifier: AGPL-3.0-only
//! The program `stella`. Everything it does is in the library, where tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    stella_registry::cli::confine_rules();
    stella_registry::cli::run(std::env::args_os(), std::env::vars_os())
}
