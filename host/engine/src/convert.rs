//! Plain data of the contract to and from the host's own types, one to one.

use std::collections::BTreeMap;
use std::time::Duration;

use cooperage_solve::{Error, ErrorKind, Location, Origin};
use cooperage_store::{Descriptor, Digest, Platform};

use crate::bindings::wit;

pub(crate) fn kind_to_wit(kind: ErrorKind) -> wit::ErrorKind {
    match kind {
        ErrorKind::InvalidInput => wit::ErrorKind::InvalidInput,
        ErrorKind::NotFound => wit::ErrorKind::NotFound,
        ErrorKind::Denied => wit::ErrorKind::Denied,
        ErrorKind::Unauthenticated => wit::ErrorKind::Unauthenticated,
        ErrorKind::Conflict => wit::ErrorKind::Conflict,
        ErrorKind::Unavailable => wit::ErrorKind::Unavailable,
        ErrorKind::Cancelled => wit::ErrorKind::Cancelled,
        ErrorKind::Unsupported => wit::ErrorKind::Unsupported,
        ErrorKind::Limit => wit::ErrorKind::Limit,
        ErrorKind::Internal => wit::ErrorKind::Internal,
    }
}

pub(crate) fn kind_from_wit(kind: wit::ErrorKind) -> ErrorKind {
    match kind {
        wit::ErrorKind::InvalidInput => ErrorKind::InvalidInput,
        wit::ErrorKind::NotFound => ErrorKind::NotFound,
        wit::ErrorKind::Denied => ErrorKind::Denied,
        wit::ErrorKind::Unauthenticated => ErrorKind::Unauthenticated,
        wit::ErrorKind::Conflict => ErrorKind::Conflict,
        wit::ErrorKind::Unavailable => ErrorKind::Unavailable,
        wit::ErrorKind::Cancelled => ErrorKind::Cancelled,
        wit::ErrorKind::Unsupported => ErrorKind::Unsupported,
        wit::ErrorKind::Limit => ErrorKind::Limit,
        wit::ErrorKind::Internal => ErrorKind::Internal,
    }
}

/// The step's name and the exit status have no field in the contract; they become causes, so that they are not lost.
pub(crate) fn error_to_wit(error: Error) -> wit::Error {
    let mut context = error.context;
    if let Some(step) = error.step {
        context.push(format!("in {step}"));
    }
    wit::Error {
        kind: kind_to_wit(error.kind),
        message: error.message,
        context,
        hint: error.hint,
        location: error.location.map(location_to_wit),
        retry_after: error.retry_after.map(|after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX)),
    }
}

pub(crate) fn error_from_wit(error: wit::Error) -> Error {
    Error {
        context: error.context,
        hint: error.hint,
        location: error.location.map(location_from_wit),
        retry_after: error.retry_after.map(|milliseconds| Duration::from_millis(milliseconds.into())),
        ..Error::new(kind_from_wit(error.kind), error.message)
    }
}

pub(crate) fn location_to_wit(location: Location) -> wit::Location {
    let Location { file, line, column, end_line, text } = location;
    wit::Location { file, line, column, end_line, text }
}

pub(crate) fn location_from_wit(location: wit::Location) -> Location {
    let wit::Location { file, line, column, end_line, text } = location;
    Location { file, line, column, end_line, text }
}

pub(crate) fn origin_from_wit(origin: crate::bindings::imports::cooperage::plugin::trees::Origin) -> Origin {
    Origin { name: origin.name, created_by: origin.created_by, location: origin.location.map(location_from_wit) }
}

pub(crate) fn digest_from_wit(digest: &str) -> Result<Digest, Error> {
    digest.parse().map_err(|_| Error::invalid(format!("`{digest}` is not `sha256:` and 64 hexadecimal digits")))
}

pub(crate) fn descriptor_to_wit(descriptor: &Descriptor) -> wit::Descriptor {
    wit::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: descriptor.size,
        annotations: descriptor.annotations.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
    }
}

pub(crate) fn descriptor_from_wit(descriptor: wit::Descriptor) -> Result<Descriptor, Error> {
    let digest = digest_from_wit(&descriptor.digest)?;
    let mut result = Descriptor::new(descriptor.media_type, digest, descriptor.size);
    result.annotations = annotations(descriptor.annotations);
    Ok(result)
}

pub(crate) fn platform_to_wit(platform: &Platform) -> wit::Platform {
    wit::Platform {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
    }
}

pub(crate) fn platform_from_wit(platform: wit::Platform) -> Platform {
    Platform { os: platform.os, architecture: platform.architecture, variant: platform.variant, os_version: None }
}

pub(crate) fn annotations(list: Vec<(String, String)>) -> BTreeMap<String, String> {
    list.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_back_as_they_went() {
        let kinds = [
            ErrorKind::InvalidInput,
            ErrorKind::NotFound,
            ErrorKind::Denied,
            ErrorKind::Unauthenticated,
            ErrorKind::Conflict,
            ErrorKind::Unavailable,
            ErrorKind::Cancelled,
            ErrorKind::Unsupported,
            ErrorKind::Limit,
            ErrorKind::Internal,
        ];
        for kind in kinds {
            let location = Location { file: "f".into(), line: 2, column: 3, end_line: 4, text: "t".into() };
            let error = Error {
                context: vec!["a".into(), "b".into()],
                hint: Some("h".into()),
                location: Some(location),
                retry_after: Some(Duration::from_millis(1500)),
                ..Error::new(kind, "m")
            };
            let back = error_from_wit(error_to_wit(error.clone()));
            assert_eq!(format!("{back:?}"), format!("{error:?}"));
        }
    }

    #[test]
    fn steps_survive_as_causes() {
        let error = Error { step: Some("[2/3] RUN x".into()), ..Error::invalid("m") };
        assert_eq!(error_to_wit(error).context, ["in [2/3] RUN x"]);
    }

    #[test]
    fn descriptors_are_checked() {
        let bad = wit::Descriptor { media_type: "m".into(), digest: "sha256:x".into(), size: 1, annotations: vec![] };
        assert_eq!(descriptor_from_wit(bad).unwrap_err().kind, ErrorKind::InvalidInput);
        let good = wit::Descriptor {
            media_type: "m".into(),
            digest: Digest::of(b"x").to_string(),
            size: 1,
            annotations: vec![("k".into(), "v".into())],
        };
        let there = descriptor_from_wit(good).unwrap();
        assert_eq!(there.annotations["k"], "v");
        assert_eq!(descriptor_to_wit(&there).digest, Digest::of(b"x").to_string());
    }
}
