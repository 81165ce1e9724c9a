//! Fetching blobs: one stream into the store, continued where it broke.

use cooperage_sdk::events::Step;
use cooperage_sdk::names;
use cooperage_sdk::retry::wish;
use cooperage_sdk::{Context, Descriptor, Error, ErrorKind, Result};

use crate::client::{Client, Request};
use crate::edge::{Answer, Sink};
use crate::retry;

const CHUNK: u32 = 1 << 20;
/// Broken connections in a row without a byte in between.
const MOST_IN_VAIN: u32 = retry::TRIES;
/// Broken connections in all.
const MOST_BROKEN: u32 = 50;

/// Whether the repository has a blob.
///
/// # Errors
/// Those of the registry.
pub fn has(client: &Client, digest: &str) -> Result<bool> {
    names::check_digest(digest)?;
    let answer = client.send(&Request::new("HEAD", client.url(&format!("blobs/{digest}"))?))?;
    let elsewhere = !client.is_own(&answer.url);
    match answer.status {
        200..=299 => Ok(true),
        // Signed links of storage services often allow a GET only; that the registry sent us there says enough.
        400 | 403 | 405 if elsewhere => Ok(true),
        404 => Ok(false),
        _ => Err(client.fault(&format!("cannot look for {digest} in {}", client.name()), answer)),
    }
}

/// Brings a blob into the store.
///
/// # Errors
/// `not-found` if it is not there, `conflict` if it is not what it should be.
pub fn get(client: &Client, blob: &Descriptor) -> Result<()> {
    names::check_digest(&blob.digest)?;
    if client.edge().store.stat(&blob.digest)?.is_some() {
        return Ok(());
    }
    let step = Step::new(format!("download {}", names::short(&blob.digest)));
    let what = format!("cannot fetch {} from {}", blob.digest, client.name());
    step.run(|step| transfer(client, blob, step, &what))
}

fn transfer(client: &Client, blob: &Descriptor, step: &Step, what: &str) -> Result<()> {
    let mut sink = client.edge().store.sink();
    let (mut done, mut vain, mut broken) = (0, 0, 0);
    loop {
        let before = done;
        match receive(client, blob, sink.as_mut(), &mut done, step, what) {
            Ok(()) => break,
            Err(error) if error.kind == ErrorKind::Unavailable => {
                vain = if done > before { 1 } else { vain + 1 };
                broken += 1;
                let wish = wish(&error).unwrap_or_default();
                if vain == MOST_IN_VAIN || broken == MOST_BROKEN || wish > retry::PATIENCE {
                    return Err(error);
                }
                cooperage_sdk::debug!("{what}, {done} of {} bytes so far: {}", blob.size, error.message);
                client.edge().clock.pause(wish.max(retry::backoff(vain)))?;
            }
            Err(error) => return Err(error),
        }
    }
    sink.commit(&blob.media_type, Some(&blob.digest)).context(what).map(drop)
}

/// One connection's worth: appends to `sink` from `done` on.
fn receive(
    client: &Client,
    blob: &Descriptor,
    sink: &mut dyn Sink,
    done: &mut u64,
    step: &Step,
    what: &str,
) -> Result<()> {
    if *done == blob.size && blob.size > 0 {
        return Ok(());
    }
    let mut request = Request::new("GET", client.url(&format!("blobs/{}", blob.digest))?).once();
    if *done > 0 {
        request = request.header("range", format!("bytes={done}-"));
    }
    let mut answer = client.send(&request)?;
    let mut skip = match answer.status {
        200 => {
            expect_length(&answer, blob.size, what)?;
            // The server does not continue: what is there already comes again.
            *done
        }
        206 if *done > 0 => {
            let part = answer.headers.content_range();
            match part {
                Some((first, size)) if first == *done && size.is_none_or(|size| size == blob.size) => 0,
                _ => {
                    return Err(Error::conflict(what).because("the registry continues at another place than asked for"));
                }
            }
        }
        _ => return Err(client.fault(what, answer)),
    };
    loop {
        let bytes = answer.body.chunk(CHUNK)?;
        if bytes.is_empty() {
            break;
        }
        let skipped = skip.min(bytes.len() as u64);
        skip -= skipped;
        let bytes = &bytes[usize::try_from(skipped).expect("within a chunk")..];
        if bytes.len() as u64 > blob.size - *done {
            return Err(Error::conflict(what).because(format!("it has more than the announced {} bytes", blob.size)));
        }
        sink.write(bytes)?;
        *done += bytes.len() as u64;
        step.bytes(*done, Some(blob.size));
    }
    if *done < blob.size {
        return Err(Error::unavailable(what).because(format!("it ends after {done} of {} bytes", blob.size)));
    }
    Ok(())
}

fn expect_length(answer: &Answer, size: u64, what: &str) -> Result<()> {
    match answer.headers.content_length() {
        Some(length) if length != size => {
            Err(Error::conflict(what).because(format!("it has {length} bytes instead of {size}")))
        }
        _ => Ok(()),
    }
}
