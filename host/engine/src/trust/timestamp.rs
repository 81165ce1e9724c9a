//! Time stamps (RFC 3161): that a signature existed at a time, as an authority of the trust root says. The token is a
//! CMS message (RFC 5652) with one signer. The authority's certificate is taken from the trust root, never from the
//! token, so the attributes that bind a token to its certificate need no look.

use super::Error;
use super::asn1::{self, Broken, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE, SET, context};
use super::chain::{TIME_STAMPING, verify_path, within};
use super::fields::time;
use super::root::{Authority, TrustRoot};

/// 1.2.840.113549.1.7.2
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
/// 1.2.840.113549.1.9.16.1.4
const TIME_STAMP_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 1, 4];
/// 1.2.840.113549.1.9.3
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 3];
/// 1.2.840.113549.1.9.4
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 4];
/// 2.16.840.1.101.3.4.2.1 to .3: SHA-256, SHA-384 and SHA-512.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// What a token says, not yet believed.
struct Token<'a> {
    /// `TSTInfo`.
    info: &'a [u8],
    /// Object identifier of the digest of `info` in the attributes.
    digest: &'a [u8],
    /// Contents of the attributes that are signed.
    attributes: &'a [u8],
    signature: &'a [u8],
}

/// What the signed part says.
struct Info<'a> {
    hash: &'a [u8],
    imprint: &'a [u8],
    time: i64,
}

/// Verifies a response of an authority about `signature`; gives its time in seconds since 1970.
pub(super) fn verify(response: &[u8], signature: &[u8], root: &TrustRoot) -> Result<i64, Error> {
    let wrong = |reason: String| Error::BadTimestamp { reason };
    let unreadable = |e: Broken| wrong(format!("it cannot be read: {e}"));
    let token = read(response).map_err(unreadable)?;
    let info = token.info().map_err(unreadable)?;
    if hash(info.hash, signature).as_deref() != Some(info.imprint) {
        return Err(wrong("it is of another signature".to_owned()));
    }
    if !token.fits().map_err(unreadable)? {
        return Err(wrong("it was changed".to_owned()));
    }
    // Attributes are signed as the set that they are, not with the tag that they have in the token.
    let signed = asn1::element(SET, &[token.attributes]);
    let mut error = wrong("it is from no authority of the trust root".to_owned());
    for authority in &root.timestamps {
        if authority.chain[0].key.made(&signed, token.signature) {
            match accept(authority, info.time) {
                Ok(()) => return Ok(info.time),
                Err(e) => error = wrong(e.to_string()),
            }
        }
    }
    Err(error)
}

/// Verifies that an authority could make time stamps at a time.
fn accept(authority: &Authority, at: i64) -> Result<(), Error> {
    let signer = &authority.chain[0];
    if !authority.validity.includes(at) {
        let id = format!("at {}", time(at));
        return Err(Error::UnknownLog { what: "time stamp authority with this key", id });
    }
    within(signer, at)?;
    let issuers = if authority.chain.len() > 1 { &authority.chain[1..] } else { &authority.chain[..] };
    verify_path(signer, issuers, &TIME_STAMPING, at)
}

fn hash(oid: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    use ring::digest::{SHA256, SHA384, SHA512, digest};
    let algorithm = match oid.strip_prefix(SHA2)? {
        [1] => &SHA256,
        [2] => &SHA384,
        [3] => &SHA512,
        _ => return None,
    };
    Some(digest(algorithm, bytes).as_ref().to_vec())
}

/// Finds the parts of a `TimeStampResp`.
fn read(response: &[u8]) -> Result<Token<'_>, Broken> {
    let mut fields = asn1::single(response, SEQUENCE)?.inside();
    let status = fields.expect(SEQUENCE)?.inside().expect(INTEGER)?.content;
    // Granted, or granted with changes.
    if !matches!(status, [0 | 1]) {
        return Err(Broken("the authority refused it"));
    }
    let mut content = fields.expect(SEQUENCE)?.inside();
    if content.expect(OID)?.content != SIGNED_DATA {
        return Err(Broken("it is no signed message"));
    }
    let mut data = content.expect(context(0))?.inside().expect(SEQUENCE)?.inside();
    data.expect(INTEGER)?;
    data.expect(SET)?;
    let mut encapsulated = data.expect(SEQUENCE)?.inside();
    if encapsulated.expect(OID)?.content != TIME_STAMP_INFO {
        return Err(Broken("it is a message about something else"));
    }
    let info = encapsulated.expect(context(0))?.inside().expect(OCTET_STRING)?.content;
    // Certificates and revocations.
    data.optional(context(0))?;
    data.optional(context(1))?;
    let mut signers = data.expect(SET)?.inside();
    let mut signer = signers.expect(SEQUENCE)?.inside();
    signers.end()?;
    signer.expect(INTEGER)?;
    signer.any()?;
    let digest = signer.expect(SEQUENCE)?.inside().expect(OID)?.content;
    let attributes = signer.expect(context(0))?.content;
    signer.expect(SEQUENCE)?;
    let signature = signer.expect(OCTET_STRING)?.content;
    Ok(Token { info, digest, attributes, signature })
}

impl<'a> Token<'a> {
    fn info(&self) -> Result<Info<'a>, Broken> {
        let mut fields = asn1::single(self.info, SEQUENCE)?.inside();
        fields.expect(INTEGER)?;
        fields.expect(OID)?;
        let mut imprint = fields.expect(SEQUENCE)?.inside();
        let hash = imprint.expect(SEQUENCE)?.inside().expect(OID)?.content;
        let imprint = imprint.expect(OCTET_STRING)?.content;
        fields.expect(INTEGER)?;
        let time = fields.expect(GENERALIZED_TIME)?.time()?;
        Ok(Info { hash, imprint, time })
    }

    /// Whether the signed attributes are about this content.
    fn fits(&self) -> Result<bool, Broken> {
        let (mut digests, mut types) = (Vec::new(), Vec::new());
        let mut list = Reader::new(self.attributes);
        while !list.is_empty() {
            let mut attribute = list.expect(SEQUENCE)?.inside();
            let name = attribute.expect(OID)?.content;
            let values = attribute.expect(SET)?;
            match name {
                CONTENT_TYPE => types.push(asn1::single(values.content, OID)?.content),
                MESSAGE_DIGEST => digests.push(asn1::single(values.content, OCTET_STRING)?.content),
                _ => {}
            }
        }
        let expected = hash(self.digest, self.info);
        Ok(types == [TIME_STAMP_INFO] && expected.is_some_and(|expected| digests == [expected.as_slice()]))
    }
}
