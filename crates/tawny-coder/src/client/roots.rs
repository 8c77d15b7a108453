//! Which authorities may vouch for Coder's certificate (CL-8).
//!
//! As Go's programs on Linux read them: `SSL_CERT_FILE` replaces the usual files, of which the first that exists counts;
//! `SSL_CERT_DIR` replaces the usual directories, all of whose files count. Files and directories add up.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::Error;

/// Where certificates of authorities are; `None` stands for the system's usual places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roots {
    pub file: Option<PathBuf>,
    pub dirs: Option<Vec<PathBuf>>,
}

/// Where Linux distributions keep the bundle. Source: Go's `crypto/x509/root_linux.go`.
const USUAL_FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const USUAL_DIRS: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

impl Roots {
    /// Reads the certificates. Called once, before anything is watched.
    ///
    /// # Errors
    /// `Reject` when a place that was named cannot be read, or no place has a certificate.
    pub fn load(&self) -> Result<RootCertStore, Error> {
        let mut store = RootCertStore::empty();
        let mut searched = Vec::new();
        match &self.file {
            Some(file) => {
                store.add_parsable_certificates(read_file(file)?);
                searched.push(file.clone());
            }
            None => {
                let files = USUAL_FILES.iter().map(PathBuf::from);
                searched.extend(files.clone());
                if let Some(file) = files.into_iter().find(|file| file.is_file()) {
                    store.add_parsable_certificates(read_file(&file)?);
                }
            }
        }
        let usual: Vec<PathBuf> = USUAL_DIRS.iter().map(PathBuf::from).collect();
        for dir in self.dirs.as_ref().unwrap_or(&usual) {
            searched.push(dir.clone());
            match read_dir(dir) {
                Ok(certificates) => {
                    store.add_parsable_certificates(certificates);
                }
                Err(error) if self.dirs.is_some() => {
                    return Err(Error::Roots {
                        path: dir.clone(),
                        reason: error.to_string(),
                    });
                }
                Err(_) => {}
            }
        }
        if store.is_empty() {
            return Err(Error::NoRoots { searched });
        }
        Ok(store)
    }
}

fn read_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let refuse = |reason: String| Error::Roots {
        path: path.to_owned(),
        reason,
    };
    let bytes = fs::read(path).map_err(|error| refuse(error.to_string()))?;
    CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(error.to_string()))
}

/// What else lies in a directory of certificates, such as keys and notes, is passed over.
fn read_dir(dir: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let mut certificates = Vec::new();
    for entry in fs::read_dir(dir)? {
        let Ok(bytes) = fs::read(entry?.path()) else {
            continue;
        };
        certificates.extend(CertificateDer::pem_slice_iter(&bytes).flatten());
    }
    Ok(certificates)
}
