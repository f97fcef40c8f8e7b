// SPDX-License-Identifier: AGPL-3.0-only
//! How cosign puts a key under a password (go-securesystemslib, `encrypted`): scrypt makes a key of the password, and
//! `NaCl`'s secretbox hides the PKCS#8 bytes with it. A file says with what effort, and only three are believed: more
//! would let a file take all memory, less would protect nothing.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use crypto_secretbox::{Key, Nonce, XSalsa20Poly1305};
use scrypt::Params;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Error, Result, json};

const SCRYPT: &str = "scrypt";
const SECRETBOX: &str = "nacl/secretbox";
/// What cosign writes.
const EFFORT: Effort = Effort { n: 1 << 16, r: 8, p: 1 };
const SALT: usize = 32;
const NONCE: usize = 24;
/// More than any file has.
const MOST_SALT: usize = 1024;
const MOST_FILE: usize = 64 << 10;

// The order of the fields is that of cosign's files.
#[derive(Serialize, Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Effort,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Effort {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// The bytes that were hidden.
pub(super) fn open(file: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let damaged = |what: &str| Error::Key(format!("the encrypted key is damaged: {what}"));
    let sealed: Sealed = json::read(file, MOST_FILE).map_err(|_| damaged("it is not the JSON of cosign"))?;
    if sealed.kdf.name != SCRYPT || sealed.cipher.name != SECRETBOX {
        return Err(Error::Key("the key is encrypted in a way that is not known here".to_owned()));
    }
    let decode = |text: &str, what: &str| json::base64(text).map_err(|_| damaged(what));
    let salt = decode(&sealed.kdf.salt, "its salt is not base64")?;
    if salt.len() > MOST_SALT {
        return Err(damaged("its salt is too long"));
    }
    let nonce: [u8; NONCE] = decode(&sealed.cipher.nonce, "its nonce is not base64")?
        .try_into()
        .map_err(|_| damaged("its nonce has not 24 bytes"))?;
    let hidden = decode(&sealed.ciphertext, "its content is not base64")?;
    cipher(&sealed.kdf.params, &salt, password)?
        .decrypt(&Nonce::from(nonce), hidden.as_slice())
        .map(Zeroizing::new)
        .map_err(|_| Error::Password("the password is wrong, or the file is damaged".to_owned()))
}

/// The bytes, hidden.
pub(super) fn seal(bytes: &[u8], password: &[u8]) -> Result<Vec<u8>> {
    let failed = || Error::Key("the key cannot be encrypted".to_owned());
    let (mut salt, mut nonce) = ([0; SALT], [0; NONCE]);
    rand::fill(&mut salt).and_then(|()| rand::fill(&mut nonce)).map_err(|_| failed())?;
    let hidden =
        cipher(&EFFORT, &salt, password)?.encrypt(&Nonce::from(nonce), bytes).map_err(|_| failed())?;
    let sealed = Sealed {
        kdf: Kdf { name: SCRYPT.to_owned(), params: EFFORT, salt: STANDARD.encode(salt) },
        cipher: Cipher { name: SECRETBOX.to_owned(), nonce: STANDARD.encode(nonce) },
        ciphertext: STANDARD.encode(hidden),
    };
    serde_json::to_vec(&sealed).map_err(|_| failed())
}

fn cipher(effort: &Effort, salt: &[u8], password: &[u8]) -> Result<XSalsa20Poly1305> {
    let refused =
        || Error::Key("the key's scrypt parameters are none of the three that cosign knows".to_owned());
    let log_n = match (effort.n, effort.r, effort.p) {
        (0x8000, 8, 1) => 15,
        (0x1_0000, 8, 1) => 16,
        (0x2_0000, 8, 1) => 17,
        _ => return Err(refused()),
    };
    let params = Params::new(log_n, effort.r, effort.p).map_err(|_| refused())?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(password, salt, &params, &mut *key).map_err(|_| refused())?;
    Ok(XSalsa20Poly1305::new(&Key::from(*key)))
}
