//! Signatures of model files, for plants that need to know who made a model.
//!
//! Ed25519 (RFC 8032) over all bytes of the file; the signature is a file of 64 bytes beside it, `MODEL.sig`. Keys are PEM
//! files (PKCS#8 and SubjectPublicKeyInfo, RFC 8410), so that OpenSSL makes and uses them too:
//!
//! ```text
//! openssl genpkey -algorithm ed25519 -out plant.pem
//! openssl pkey -in plant.pem -pubout -out plant.pub.pem
//! openssl pkeyutl -verify -pubin -inkey plant.pub.pem -rawin -in model.safetensors -sigfile model.safetensors.sig
//! ```

use std::fmt::Display;
use std::io::Read;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::atomic_file;
use crate::beside::beside;
use crate::error::{AtPath, Error, Result, shown};
use crate::input_file;

fn refuse(path: &Path, reason: impl Display) -> Error {
    Error::Config(format!("{}: {reason}", path.display()))
}

/// Where the signature of a file is.
pub fn signature_of(file: &Path) -> PathBuf {
    beside(file, ".sig")
}

/// Makes a secret key at `path`, readable by its owner alone, and its public one beside it with the ending `.pub`; returns
/// the latter's place.
///
/// # Errors
/// When a file is there already, and I/O errors.
pub fn new_key(path: &Path) -> Result<PathBuf> {
    let public = beside(path, ".pub");
    for file in [path, &public] {
        if file.exists() {
            return Err(refuse(file, "is there already; a key is never written over"));
        }
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|e| Error::Config(format!("no random numbers for a key: {e}")))?;
    let key = SigningKey::from_bytes(&secret);
    let text = key.to_pkcs8_pem(LineEnding::LF).map_err(|e| refuse(path, e))?;
    atomic_file::write_private(path, |out| out.write_all(text.as_bytes()))?;
    let text = key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|e| refuse(&public, e))?;
    atomic_file::write(&public, |out| out.write_all(text.as_bytes()))?;
    Ok(public)
}

/// Signs a file with the secret key of a PEM file; returns the place of the signature.
///
/// # Errors
/// When the key is none, and I/O errors.
pub fn sign(file: &Path, key: &Path) -> Result<PathBuf> {
    let key = SigningKey::from_pkcs8_pem(&input_file::text(key)?).map_err(|e| Error::Argument {
        name: "key",
        reason: format!("{}: no secret Ed25519 key in PEM ({e})", shown(key)),
    })?;
    let signature = key.sign(&input_file::read(file)?);
    let place = signature_of(file);
    atomic_file::write(&place, |out| out.write_all(&signature.to_bytes()))?;
    Ok(place)
}

/// A key that signatures are checked with.
#[derive(Clone, Debug)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Of a PEM file.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(path: &Path) -> Result<Self> {
        VerifyingKey::from_public_key_pem(&input_file::text(path)?)
            .map(Self)
            .map_err(|e| refuse(path, format!("no public Ed25519 key in PEM ({e})")))
    }

    /// Fails unless `bytes`, the contents of a file, are signed by the key; the signature is read from beside it.
    ///
    /// # Errors
    /// When there is no signature, or it is of another file or key.
    pub fn verify(&self, file: &Path, bytes: &[u8]) -> Result<()> {
        let place = signature_of(file);
        let refuse = |reason: String| Error::Model { path: file.into(), reason };
        if !place.is_file() {
            return Err(refuse(format!("not signed: there is no {}; hotad sign makes it", place.display())));
        }
        let mut signature = Vec::new();
        input_file::open(&place)?.take(Signature::BYTE_SIZE as u64 + 1).read_to_end(&mut signature).at(&place)?;
        let signature = Signature::from_slice(&signature).map_err(|_| {
            refuse(format!("{} is no signature, which has {} bytes", place.display(), Signature::BYTE_SIZE))
        })?;
        self.0
            .verify_strict(bytes, &signature)
            .map_err(|_| refuse(format!("the signature in {} is of another file or by another key", place.display())))
    }
}
