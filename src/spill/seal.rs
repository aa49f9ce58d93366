//! Records that only the holder of a key can read.
//!
//! Optional, by `spill.key_file`. Each record is sealed by itself with
//! XChaCha20-Poly1305, so damage loses one record and any record can be read
//! without its neighbours (decision 0015):
//!
//! ```text
//!  ├ header, 56 bytes, version 2 ┼ nonce, 24 ┼ meta and payload, sealed ┼ tag, 16 ┤
//!    lengths are those of meta and payload, the CRC is that of the bytes stored
//! ```
//!
//! # What holds
//! 1. The header's bytes 0..48 are authenticated with the content: a record
//!    that was moved, cut or relabelled does not open.
//! 2. The key of a segment is HKDF-SHA256 of the master key with the info
//!    `pitwire spill`, segment and run. Nonces are random all the same: numbers
//!    come again after a failed commit, and in an emptied directory.
//! 3. Damage and a wrong key are told apart: the CRC needs no key. What is
//!    sound and does not open is *locked*, and nothing here deletes it.
//! 4. Keys are wiped from memory when they are dropped, and never shown.
//!
//! # Not here
//! Lengths, weights, numbers and the times of files stay readable. Plain records
//! are read beside sealed ones, so whoever can write to the directory can add
//! some: this hides data, it does not vouch for a directory. There is one key at
//! a time, and nothing is sealed anew when it changes.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use bytes::{Bytes, BytesMut};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Record;
use super::config::{Config, ConfigError};
use super::frame::Header;

/// Length of the master key, in bytes.
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// What sealing adds to a record, in bytes.
pub(super) const SEAL_BYTES: u64 = (NONCE_BYTES + TAG_BYTES) as u64;
/// A key file that is longer is a wrong file: 64 digits are the longest form.
const KEY_FILE_BYTES_MAX: u64 = 4096;
/// systemd's directory of credentials (`LoadCredential=spill.key:…`).
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";
const INFO: &[u8] = b"pitwire spill";
/// What to do about a key file that is none.
const REMEDY: &str = "it must hold 32 random bytes, as they are, as 64 hex digits or in base64; \
                      `head -c 32 /dev/urandom` makes some";

/// The master key, from which that of each segment is derived. Wiped when it is
/// dropped.
pub struct SpillKey(Zeroizing<[u8; KEY_BYTES]>);

impl std::fmt::Debug for SpillKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SpillKey(hidden)")
    }
}

impl Config {
    /// Reads the key, if one is configured. A relative `key_file` is one of
    /// systemd's credentials.
    ///
    /// # Errors
    /// If the file cannot be read or holds no key.
    pub fn key(&self) -> Result<Option<SpillKey>, ConfigError> {
        let Some(path) = &self.key_file else {
            return Ok(None);
        };
        let read = located(path, std::env::var_os(CREDENTIALS_VARIABLE)).and_then(|path| SpillKey::load(&path));
        let fault = |expected| ConfigError { key: "key_file", value: format!("{path:?}"), expected };
        read.map(Some).map_err(fault)
    }

    /// Whether the key is a credential of systemd, and this process got none:
    /// it can be checked within the unit only.
    #[must_use]
    pub fn key_is_with_systemd(&self) -> bool {
        self.key_file.as_deref().is_some_and(Path::is_relative) && std::env::var_os(CREDENTIALS_VARIABLE).is_none()
    }

    /// What is unwise about the key's file, if anything.
    #[must_use]
    pub fn key_warning(&self) -> Option<String> {
        let path = located(self.key_file.as_deref()?, std::env::var_os(CREDENTIALS_VARIABLE)).ok()?;
        let mode = std::fs::metadata(&path).ok()?.mode();
        let path = path.display();
        (mode & 0o004 != 0).then(|| format!("{path} can be read by every user of this machine: chmod 600 {path}"))
    }
}

/// Where the key lies.
fn located(path: &Path, credentials: Option<OsString>) -> Result<PathBuf, String> {
    match credentials {
        _ if path.is_absolute() => Ok(path.into()),
        Some(dir) => Ok(PathBuf::from(dir).join(path)),
        None => {
            let name = path.display();
            Err(format!(
                "{name} is relative, so one of systemd's credentials, and there are none here: add \
                 LoadCredential={name}:/etc/pitwire/{name} to the unit, or use an absolute path"
            ))
        }
    }
}

impl SpillKey {
    /// Reads a key from a file.
    ///
    /// # Errors
    /// Why it is none, and what would be one.
    pub fn load(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        // Never moved while it grows, so that wiping it wipes all.
        let mut content = Zeroizing::new(Vec::with_capacity(2 * KEY_FILE_BYTES_MAX as usize));
        File::open(path).and_then(|file| file.take(KEY_FILE_BYTES_MAX + 1).read_to_end(&mut content)).map_err(
            |error| format!("read {shown}: {error}; {REMEDY}, and the agent's user must be able to read it"),
        )?;
        Self::parse(&content).map_err(|why| format!("{shown} {why}; {REMEDY}"))
    }

    fn parse(content: &[u8]) -> Result<Self, String> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if content.len() == KEY_BYTES {
            // 32 random bytes are never all printable: (95 / 256)^32 < 10^-13.
            if content.iter().all(|byte| matches!(byte, 0x20..0x7f)) {
                return Err("holds 32 characters, which is a passphrase or half a key".into());
            }
            key.copy_from_slice(content);
        } else {
            let text = content.trim_ascii();
            let decoded = match text.len() {
                64 => digits(text, &mut key),
                _ => Base64::decode(text, &mut *key).is_ok_and(|decoded| decoded.len() == KEY_BYTES),
            };
            if !decoded {
                return Err(format!("holds {} bytes that are no key", content.len()));
            }
        }
        if key.iter().all(|byte| *byte == key[0]) {
            return Err("holds one byte over and over".into());
        }
        Ok(Self(key))
    }

    /// What seals and opens the records that `run` has in `segment`.
    pub(super) fn cipher(&self, segment: u64, run: u64) -> SegmentCipher {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let info = [INFO, &segment.to_le_bytes(), &run.to_le_bytes()];
        let derived = Hkdf::<Sha256>::new(None, &*self.0).expand_multi_info(&info, &mut *key);
        derived.expect("32 bytes are less than the 8,160 that HKDF can give");
        SegmentCipher { run, cipher: XChaCha20Poly1305::new((&*key).into()) }
    }
}

/// 64 hex digits.
fn digits(text: &[u8], key: &mut [u8; KEY_BYTES]) -> bool {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (out, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
            return false;
        };
        *out = high << 4 | low;
    }
    true
}

/// Seals and opens the records that one run has in one segment.
pub(super) struct SegmentCipher {
    run: u64,
    cipher: XChaCha20Poly1305,
}

impl SegmentCipher {
    /// Puts a record's sealed body behind `buf`.
    ///
    /// # Errors
    /// If the kernel gives no random bits.
    pub(super) fn seal(&self, buf: &mut Vec<u8>, header: &Header, record: &Record) -> io::Result<()> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
        self.seal_with(nonce, buf, header, record)
    }

    fn seal_with(
        &self,
        nonce: [u8; NONCE_BYTES],
        buf: &mut Vec<u8>,
        header: &Header,
        record: &Record,
    ) -> io::Result<()> {
        buf.extend_from_slice(&nonce);
        let start = buf.len();
        buf.extend_from_slice(&record.meta);
        buf.extend_from_slice(&record.payload);
        let content = buf.get_mut(start..).unwrap_or_default();
        let tag = self.cipher.encrypt_inout_detached(&XNonce::from(nonce), &header.bound(), content.into());
        buf.extend_from_slice(&tag.map_err(|_| io::Error::other("the record is too long to be sealed"))?);
        Ok(())
    }

    /// Opens a body in its place; `None` if it does not fit header and key.
    fn open<'a>(&self, header: &Header, body: &'a mut [u8]) -> Option<&'a [u8]> {
        let (nonce, rest) = body.split_first_chunk_mut::<NONCE_BYTES>()?;
        let (content, tag) = rest.split_last_chunk_mut::<TAG_BYTES>()?;
        let (nonce, tag) = (XNonce::from(*nonce), Tag::from(*tag));
        self.cipher.decrypt_inout_detached(&nonce, &header.bound(), (&mut *content).into(), &tag).ok()?;
        Some(content)
    }
}

/// Opens a sealed body that was read whole; `None` if it does not open.
pub(super) fn open(key: &SpillKey, header: &Header, body: Bytes) -> Option<Bytes> {
    let mut body = BytesMut::from(body);
    key.cipher(header.segment, header.run).open(header, &mut body)?;
    let end = body.len() - TAG_BYTES;
    Some(body.freeze().slice(NONCE_BYTES..end))
}

/// Opens the records of a segment one after the other.
pub(super) struct Opener<'a> {
    key: Option<&'a SpillKey>,
    cipher: Option<SegmentCipher>,
    body: Vec<u8>,
}

impl<'a> Opener<'a> {
    pub(super) fn new(key: Option<&'a SpillKey>) -> Self {
        Self { key, cipher: None, body: Vec::new() }
    }

    /// Where the stored body of the next record is to be put.
    pub(super) fn body(&mut self) -> &mut Vec<u8> {
        self.body.clear();
        &mut self.body
    }

    /// The meta of the record whose body was put there; `None` if it is locked.
    pub(super) fn meta(&mut self, header: &Header) -> Option<Bytes> {
        let key = self.key?;
        if self.cipher.as_ref().is_none_or(|cipher| cipher.run != header.run) {
            self.cipher = Some(key.cipher(header.segment, header.run));
        }
        let content = self.cipher.as_ref()?.open(header, &mut self.body)?;
        content.get(..usize::from(header.meta_bytes)).map(Bytes::copy_from_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SpillKey {
        SpillKey(Zeroizing::new(std::array::from_fn(|at| at as u8)))
    }

    #[test]
    fn a_key_is_read_as_bytes_as_digits_and_as_base64_and_nothing_else_is_one() {
        let raw: Vec<u8> = (0..32).collect();
        let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1B1C1D1E1F";
        let base64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let [line, padded] = [format!("{hex}\n"), format!("  {base64}\r\n")];
        for good in [&raw[..], hex.as_bytes(), base64.as_bytes(), line.as_bytes(), padded.as_bytes()] {
            assert_eq!(*SpillKey::parse(good).unwrap().0, *key().0, "{good:?}");
        }
        let bad: [(&[u8], &str); 9] = [
            (b"", "0 bytes"),
            (&raw[..31], "31 bytes"),
            (&[&raw[..], b"\n"].concat(), "33 bytes"),
            (&[&hex.as_bytes()[..63], b"g"].concat(), "64 bytes"),
            (&hex.as_bytes()[..62], "62 bytes"),
            (&hex.as_bytes()[..32], "half a key"),
            (b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8 =", "45 bytes"),
            (&[7; 32], "over and over"),
            (&[0x30; 5000], "5000 bytes"),
        ];
        for (content, why) in bad {
            let error = SpillKey::parse(content).unwrap_err();
            assert!(error.contains(why), "{error} for {content:?}");
        }
    }

    #[test]
    fn a_relative_key_file_is_a_credential_and_every_error_says_what_to_do() {
        let at = |path: &str, dir: Option<&str>| located(Path::new(path), dir.map(Into::into));
        assert_eq!(at("/k", Some("/run/c")).unwrap(), Path::new("/k"));
        assert_eq!(at("spill.key", Some("/run/c")).unwrap(), Path::new("/run/c/spill.key"));
        let error = at("spill.key", None).unwrap_err();
        assert!(error.contains("LoadCredential=spill.key:/etc/pitwire/spill.key"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spill.key");
        let config = Config { key_file: Some(path.clone()), ..Config::default() };
        let error = config.key().unwrap_err().to_string();
        assert!(error.contains("key_file") && error.contains("No such file"), "{error}");
        std::fs::write(&path, "secret passphrase").unwrap();
        let error = config.key().unwrap_err().to_string();
        assert!(error.contains("holds 17 bytes that are no key") && error.contains("/dev/urandom"), "{error}");
        assert!(!error.contains("passphrase"), "what is in the file is not shown: {error}");
        std::fs::write(&path, &key().0[..]).unwrap();
        let read = config.key().unwrap().unwrap();
        assert_eq!((*read.0, format!("{read:?}")), (*key().0, "SpillKey(hidden)".into()));
        let mode = |mode| std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(config.key_warning().unwrap().contains("chmod 600"));
        mode(0o640);
        assert_eq!(config.key_warning(), None);
        assert!(Config::default().key().unwrap().is_none());
    }

    // Computed with Python's `cryptography` (HKDF, ChaCha20-Poly1305, zlib.crc32)
    // and an HChaCha20 of twenty lines, held to the vector of the XChaCha draft.
    // Frozen: a change of format is a new version with its own bytes.
    const GOLDEN: [&str; 4] = [
        "5077537002010200110000000010000011000000000000001000000000000000",
        "0a000000000000009001000000000000938ca1a7fa4665974041424344454647",
        "48494a4b4c4d4e4f5051525354555657a952947114d92c69b419596ef0c3007c",
        "b4996d1f094da935e9c865038ea411122b2bc7",
    ];

    #[test]
    fn a_sealed_record_has_the_bytes_that_another_program_computed() {
        let record = Record { meta: "m1".into(), payload: "car 44 engine.rpm".into(), weight: 400 };
        let mut header = Header {
            sealed: true,
            first: true,
            last: false,
            meta_bytes: 2,
            payload_bytes: 17,
            offset: 0x1000,
            segment: 17,
            run: 16,
            sequence: 10,
            weight: 400,
            body_crc: 0,
        };
        let nonce = std::array::from_fn(|at| 0x40 + at as u8);
        let mut body = Vec::new();
        key().cipher(17, 16).seal_with(nonce, &mut body, &header, &record).unwrap();
        header.body_crc = crc32fast::hash(&body);
        let hex: String = header.encode().iter().chain(&body).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN.concat());
        assert_eq!(body.len() as u64, header.body_bytes());
        let content = open(&key(), &header, body.clone().into()).unwrap();
        assert_eq!(content, "m1car 44 engine.rpm");
        // Neither another key, place nor label opens it.
        let other = SpillKey(Zeroizing::new([9; KEY_BYTES]));
        assert_eq!(open(&other, &header, body.clone().into()), None);
        let moved = [
            Header { segment: 18, ..header },
            Header { run: 17, ..header },
            Header { offset: 0, ..header },
            Header { sequence: 11, ..header },
            Header { weight: 1, ..header },
            Header { last: true, ..header },
            Header { meta_bytes: 3, payload_bytes: 16, ..header },
        ];
        for header in moved {
            assert_eq!(open(&key(), &header, body.clone().into()), None, "{header:?}");
        }
        for short in 0..body.len() {
            assert_eq!(open(&key(), &header, body[..short].to_vec().into()), None);
        }
    }
}
