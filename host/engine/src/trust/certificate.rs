//! X.509 certificates, as far as signatures need them: who holds one, when, for what, and what a certificate
//! transparency log signed of it. Whether a certificate is to be believed is for `chain`.

use super::asn1::{self, BOOLEAN, Broken, INTEGER, OCTET_STRING, OID, SEQUENCE, UTF8_STRING, context};
use super::{Error, PublicKey, pem};

const WHAT: &str = "the certificate";
const OTHER_VERSION: Broken = Broken("it is no certificate of version 3");
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// 1.3.6.1.4.1.11129.2.4.2: the promises of certificate transparency logs (RFC 6962, section 3.3).
const TIMESTAMPS: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x02];
/// 1.3.6.1.4.1.57264.1.1: who vouched for the holder, as bare text; written by Fulcio until it took `.8`.
const OLD_ISSUER: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x01];
/// 1.3.6.1.4.1.57264.1.8: the same as a UTF8String.
const ISSUER: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x08];
/// 1.3.6.1.4.1.57264.1.7: a user name as an otherName.
const OTHER_NAME: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x07];

/// A certificate that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    pub der: Vec<u8>,
    pub key: PublicKey,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
    /// Whether issuer and subject are the same: a root.
    pub self_issued: bool,
    /// Contents of `tbsCertificate` without the extensions.
    fields: Vec<u8>,
    extensions: Vec<Extension>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Extension {
    oid: Vec<u8>,
    value: Vec<u8>,
    whole: Vec<u8>,
}

impl Certificate {
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let wrong = Error::malformed(WHAT);
        let mut tbs =
            asn1::single(der, SEQUENCE).and_then(|outer| outer.inside().expect(SEQUENCE)).map_err(&wrong)?.inside();
        let (mut fields, mut read) = (Vec::new(), Vec::new());
        while !tbs.is_empty() {
            let field = tbs.any().map_err(&wrong)?;
            if field.tag != context(3) {
                fields.extend_from_slice(field.whole);
            }
            read.push(field);
        }
        // Version, serial number, signature algorithm, issuer, validity, subject, key, and [3] for the extensions.
        let [version, serial, _, issuer, validity, subject, key, .., last] = read.as_slice() else {
            return Err(wrong(OTHER_VERSION));
        };
        if (version.tag, serial.tag, last.tag) != (context(0), INTEGER, context(3)) {
            return Err(wrong(OTHER_VERSION));
        }
        let (not_before, not_after) = (|| {
            let mut times = validity.inside();
            Ok((times.any()?.time()?, times.any()?.time()?))
        })()
        .map_err(&wrong)?;
        let extensions = extensions(last.content).map_err(&wrong)?;
        let (key, self_issued) = (PublicKey::from_der(key.whole)?, issuer.whole == subject.whole);
        Ok(Self { der: der.to_vec(), key, not_before, not_after, self_issued, fields, extensions })
    }

    /// All certificates of a PEM text.
    pub fn from_pem(text: &str) -> Result<Vec<Self>, Error> {
        pem::decode(WHAT, text)?.iter().map(|(_, der)| Self::from_der(der)).collect()
    }

    fn extension(&self, oid: &[u8]) -> Option<&[u8]> {
        self.extensions.iter().find(|extension| extension.oid == oid).map(|extension| extension.value.as_slice())
    }

    /// Whether an extended key usage (the bytes of its object identifier) is among those of the certificate.
    pub fn is_for(&self, usage: &[u8]) -> bool {
        let listed = |value| {
            let mut usages = asn1::single(value, SEQUENCE)?.inside();
            while !usages.is_empty() {
                if usages.expect(OID)?.content == usage {
                    return Ok(true);
                }
            }
            Ok::<_, Broken>(false)
        };
        self.extension(EXTENDED_KEY_USAGE).is_some_and(|value| listed(value).unwrap_or(false))
    }

    /// Who holds it: the only e-mail address, URI or user name in it.
    pub fn subject(&self) -> Result<String, Error> {
        let missing = Error::Missing { what: "the name in the certificate", reason: "nobody can be identified by it" };
        let value = self.extension(SUBJECT_ALTERNATIVE_NAME).ok_or(missing)?;
        let names = alternative_names(value).map_err(Error::malformed(WHAT))?;
        match <[String; 1]>::try_from(names) {
            Ok([name]) => Ok(name),
            Err(names) => {
                let reason = format!("it has {} names, expected one e-mail address, URI or user name", names.len());
                Err(Error::Malformed { what: WHAT, reason })
            }
        }
    }

    /// Who vouched for the holder: the URL of an OpenID Connect issuer.
    pub fn issuer(&self) -> Result<String, Error> {
        let text = match (self.extension(ISSUER), self.extension(OLD_ISSUER)) {
            (Some(value), _) => asn1::single(value, UTF8_STRING).map_err(Error::malformed(WHAT))?.content,
            (None, Some(value)) => value,
            (None, None) => {
                let reason = "a certificate for signing says who vouched for its holder";
                return Err(Error::Missing { what: "the OpenID issuer in the certificate", reason });
            }
        };
        text_of(text).map_err(Error::malformed(WHAT))
    }

    /// What certificate transparency logs promise about it, still encoded.
    pub fn log_promises(&self) -> Option<Result<&[u8], Broken>> {
        self.extension(TIMESTAMPS).map(|value| Ok(asn1::single(value, OCTET_STRING)?.content))
    }

    /// `tbsCertificate` as it was before the promises of the logs were added, which is what they signed.
    pub fn without_log_promises(&self) -> Vec<u8> {
        let kept = self.extensions.iter().filter(|extension| extension.oid != TIMESTAMPS);
        let kept: Vec<_> = kept.map(|extension| extension.whole.as_slice()).collect();
        let extensions = asn1::element(context(3), &[&asn1::element(SEQUENCE, &kept)]);
        asn1::element(SEQUENCE, &[&self.fields, &extensions])
    }
}

fn extensions(content: &[u8]) -> Result<Vec<Extension>, Broken> {
    let mut list = asn1::single(content, SEQUENCE)?.inside();
    let mut found: Vec<Extension> = Vec::new();
    while !list.is_empty() {
        let extension = list.expect(SEQUENCE)?;
        let mut fields = extension.inside();
        let oid = fields.expect(OID)?.content.to_vec();
        fields.optional(BOOLEAN)?;
        let value = fields.expect(OCTET_STRING)?.content.to_vec();
        fields.end()?;
        // RFC 5280, section 4.2. Of two, one reader would take the first and another one the second.
        if found.iter().any(|other| other.oid == oid) {
            return Err(Broken("it has an extension twice"));
        }
        found.push(Extension { oid, value, whole: extension.whole.to_vec() });
    }
    Ok(found)
}

fn alternative_names(value: &[u8]) -> Result<Vec<String>, Broken> {
    let mut names = asn1::single(value, SEQUENCE)?.inside();
    let mut found = Vec::new();
    while !names.is_empty() {
        let name = names.any()?;
        match name.tag {
            // rfc822Name and uniformResourceIdentifier.
            0x81 | 0x86 => found.push(text_of(name.content)?),
            tag if tag == context(0) => {
                let mut fields = name.inside();
                if fields.expect(OID)?.content == OTHER_NAME {
                    let value = fields.expect(context(0))?;
                    found.push(text_of(asn1::single(value.content, UTF8_STRING)?.content)?);
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn text_of(bytes: &[u8]) -> Result<String, Broken> {
    let text = std::str::from_utf8(bytes).map_err(|_| Broken("it has a name that is not UTF-8"))?;
    // A name is compared and shown: it must be what it looks like.
    if text.is_empty() || text.len() > 2000 || text.chars().any(char::is_control) {
        return Err(Broken("it has a name that is empty, too long or has control characters"));
    }
    Ok(text.to_owned())
}
