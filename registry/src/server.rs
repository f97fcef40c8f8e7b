// SPDX-License-Identifier: AGPL-3.0-only
//! A placeholder for the server.

use crate::config::Config;

/// Serves the registry until it is told to stop.
#[expect(clippy::unused_async, reason = "a placeholder")]
pub async fn serve(_config: Config) -> anyhow::Result<()> {
    anyhow::bail!("this build has no server")
}
