//! Whether a certificate was issued by an authority, for what it is used for, at a time; and whether a certificate
//! transparency log promised to show it to everybody (RFC 6962).

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::Error;
use super::asn1::Broken;
use super::certificate::Certificate;
use super::fields::{hex, time};
use super::root::{Authority, TrustRoot};

/// 1.3.6.1.5.5.7.3.3
pub(super) const CODE_SIGNING: Usage = Usage { oid: &[0x2b, 6, 1, 5, 5, 7, 3, 3], what: "signing code" };
/// 1.3.6.1.5.5.7.3.8
pub(super) const TIME_STAMPING: Usage = Usage { oid: &[0x2b, 6, 1, 5, 5, 7, 3, 8], what: "time stamps" };

/// An extended key usage.
pub(super) struct Usage {
    oid: &'static [u8],
    what: &'static str,
}

/// Verifies a certificate for signing code that was used at `at`, and its place in a certificate transparency log.
pub(super) fn verify_signer(leaf: &Certificate, root: &TrustRoot, at: i64) -> Result<(), Error> {
    within(leaf, at)?;
    let mut reason = "none was valid at that time".to_owned();
    for authority in root.authorities.iter().filter(|authority| authority.validity.includes(at)) {
        match verify_path(leaf, &authority.chain, &CODE_SIGNING, at) {
            Ok(()) => return verify_logged(leaf, authority, root),
            Err(Error::ForeignCertificate { reason: why }) => reason = why,
            Err(other) => return Err(other),
        }
    }
    Err(Error::ForeignCertificate { reason })
}

/// Verifies that a certificate was valid.
pub(super) fn within(leaf: &Certificate, at: i64) -> Result<(), Error> {
    let (from, until) = (leaf.not_before, leaf.not_after);
    if (from..=until).contains(&at) {
        return Ok(());
    }
    Err(Error::Expired { from: time(from), until: time(until), at: time(at) })
}

/// Verifies that `leaf` leads to the last certificate of `issuers` through the others.
pub(super) fn verify_path(leaf: &Certificate, issuers: &[Certificate], usage: &Usage, at: i64) -> Result<(), Error> {
    let foreign = |error: webpki::Error| Error::ForeignCertificate { reason: error.to_string() };
    if !leaf.is_for(usage.oid) {
        return Err(Error::CertificatePurpose { wanted: usage.what });
    }
    let issuers: Vec<_> = issuers.iter().map(|issuer| CertificateDer::from(issuer.der.as_slice())).collect();
    let Some((root, between)) = issuers.split_last() else {
        return Err(Error::ForeignCertificate { reason: "the authority has no certificate".to_owned() });
    };
    let der = CertificateDer::from(leaf.der.as_slice());
    let anchors = [webpki::anchor_from_trusted_cert(root).map_err(foreign)?];
    let at =
        u64::try_from(at).map_err(|_| Error::ForeignCertificate { reason: "it is from before 1970".to_owned() })?;
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at));
    // An intermediate authority need not say what its certificates are for.
    let usage = KeyUsage::required_if_present(usage.oid);
    let end = EndEntityCert::try_from(&der).map_err(foreign)?;
    end.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, between, at, usage, None, None).map_err(foreign)?;
    Ok(())
}

/// One log's promise (`SignedCertificateTimestamp`).
struct Promise<'a> {
    log: &'a [u8],
    /// Milliseconds since 1970.
    timestamp: [u8; 8],
    extensions: &'a [u8],
    signature: &'a [u8],
}

/// One promise of a log that the trust root knows is enough, as for sigstore's own clients.
fn verify_logged(leaf: &Certificate, authority: &Authority, root: &TrustRoot) -> Result<(), Error> {
    let unlogged = |reason: String| Error::Unlogged { reason };
    let list = leaf.log_promises().ok_or_else(|| unlogged("it has no promise of such a log".to_owned()))?;
    let promises = list.and_then(promises).map_err(|e| unlogged(format!("its promises cannot be read: {e}")))?;
    let mut error = unlogged("it has no promise of such a log".to_owned());
    for promise in promises {
        let at = i64::try_from(u64::from_be_bytes(promise.timestamp) / 1000).unwrap_or(i64::MAX);
        let mut logs =
            root.certificate_logs.iter().filter(|log| log.id == promise.log && log.validity.includes(at)).peekable();
        if logs.peek().is_none() {
            error = Error::UnknownLog { what: "certificate transparency log", id: hex(promise.log) };
            continue;
        }
        let signed = promise.signed(leaf, &authority.chain[0]);
        if logs.any(|log| log.key.made(&signed, promise.signature)) {
            return Ok(());
        }
        error = unlogged(format!("the promise of {} does not fit the certificate", hex(promise.log)));
    }
    Err(error)
}

impl Promise<'_> {
    /// What the log signed (RFC 6962, section 3.2): the certificate before the promises were added, and who issues it.
    fn signed(&self, leaf: &Certificate, issuer: &Certificate) -> Vec<u8> {
        let certificate = leaf.without_log_promises();
        let mut signed = vec![0, 0];
        signed.extend_from_slice(&self.timestamp);
        signed.extend_from_slice(&[0, 1]);
        signed.extend_from_slice(issuer.key.fingerprint().as_bytes());
        // A certificate that was read is far smaller than the 16 MiB that three bytes count.
        signed.extend_from_slice(&(certificate.len() as u32).to_be_bytes()[1..]);
        signed.extend_from_slice(&certificate);
        signed.extend_from_slice(&(self.extensions.len() as u16).to_be_bytes());
        signed.extend_from_slice(self.extensions);
        signed
    }
}

/// Reads a list of promises (RFC 6962, section 3.3, in the presentation language of TLS).
fn promises(list: &[u8]) -> Result<Vec<Promise<'_>>, Broken> {
    let mut outer = list;
    let mut rest = counted(&mut outer)?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let mut one = counted(&mut rest)?;
        // Another version would have other fields.
        if take(&mut one, 1)? != [0] {
            continue;
        }
        let log = take(&mut one, 32)?;
        let timestamp = take(&mut one, 8)?.try_into().map_err(|_| Broken("it is cut off"))?;
        let extensions = counted(&mut one)?;
        take(&mut one, 2)?;
        found.push(Promise { log, timestamp, extensions, signature: counted(&mut one)? });
    }
    Ok(found)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], Broken> {
    let (taken, left) = rest.split_at_checked(count).ok_or(Broken("it is cut off"))?;
    *rest = left;
    Ok(taken)
}

/// Bytes with their number before them, in two bytes.
fn counted<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Broken> {
    let count = take(rest, 2)?;
    take(rest, usize::from(u16::from_be_bytes([count[0], count[1]])))
}
