//! An authority and certificates for a test, made by the `openssl` command.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A fresh authority, a server certificate for localhost, 127.0.0.1, x.test and y.test, and a client certificate.
pub(crate) struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    pub fn make() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let made = Self { directory };
        let extensions = "subjectAltName=DNS:localhost,DNS:x.test,DNS:y.test,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
        std::fs::write(made.path("server.ext"), extensions).unwrap();
        std::fs::write(made.path("client.ext"), "extendedKeyUsage=clientAuth\n").unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        made.openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN=test-authority"));
        for name in ["server", "client"] {
            made.openssl(&format!("req -new {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
            made.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.crt -days 2 -extfile {name}.ext"
            ));
        }
        made
    }

    /// `ca.crt`, `server.crt`, `server.key`, `client.crt`, `client.key`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let out = Command::new("openssl").args(arguments.split(' ')).current_dir(self.directory.path()).output();
        let out = out.expect("the openssl command is installed");
        assert!(out.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// A directory in the manner of Docker's `certs.d` that trusts the authority for `authority`.
    pub fn certs_d(&self, authority: &str, with_client: bool) -> PathBuf {
        let root = self.path("certs.d");
        let host = root.join(authority);
        std::fs::create_dir_all(&host).unwrap();
        let copy = |from: &str, to: &Path| {
            std::fs::copy(self.path(from), to).unwrap();
        };
        copy("ca.crt", &host.join("ca.crt"));
        if with_client {
            copy("client.crt", &host.join("client.cert"));
            copy("client.key", &host.join("client.key"));
        }
        root
    }
}
