// SPDX-License-Identifier: AGPL-3.0-only
//! The password of a private key, from where cosign takes it: `COSIGN_PASSWORD`, else the terminal, else all of stdin.
//! An empty one is a password too. It is wiped from memory after use.

use std::io::{self, IsTerminal as _, Read as _};
use std::os::unix::ffi::OsStrExt as _;

use anyhow::{Context as _, ensure};
use zeroize::Zeroizing;

use super::connection::AllVariables;

const VARIABLE: &str = "COSIGN_PASSWORD";
const MOST: u64 = 64 << 10;

/// The password of a key that is there.
pub(super) fn known(env: &AllVariables) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    ask(env, false)
}

/// The password of a new key; a person types it twice.
pub(super) fn new(env: &AllVariables) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    ask(env, true)
}

fn ask(env: &AllVariables, twice: bool) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    if let Some(password) = env.get(VARIABLE) {
        return Ok(Zeroizing::new(password.as_bytes().to_vec()));
    }
    if io::stdin().is_terminal() {
        let prompt = |text: &str| {
            let typed = rpassword::prompt_password(text).context("cannot read the password")?;
            anyhow::Ok(Zeroizing::new(typed.into_bytes()))
        };
        let password = prompt("Password of the private key: ")?;
        ensure!(!twice || prompt("Again: ")? == password, "the two are not the same");
        return Ok(password);
    }
    let mut password = Zeroizing::new(Vec::new());
    io::stdin().take(MOST + 1).read_to_end(&mut password).context("cannot read the password from stdin")?;
    ensure!(password.len() as u64 <= MOST, "the password on stdin is longer than {MOST} bytes");
    Ok(password)
}
