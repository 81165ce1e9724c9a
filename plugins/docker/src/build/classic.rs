//! What the classic builder prints, and Podman's, which prints nearly the same: text for people, of which the lines that
//! begin steps are found again.

use cooperage_sdk::Result;

use super::{Decoder, image_of};
use crate::edge::{Event, Show};
use crate::lines::{Record, Transfers};

/// Follows the text.
#[derive(Debug, Default)]
pub struct Text {
    /// The key and the number of the step that is under way.
    step: Option<String>,
    count: usize,
    /// Whether a command of the step has begun, whose output may look like the builder's.
    running: bool,
    fresh: bool,
    transfers: Transfers,
    image: Option<String>,
    said: Option<String>,
}

impl Decoder for Text {
    fn take(&mut self, record: &Record, show: &mut dyn Show) -> Result<()> {
        if let Some(image) = image_of(record) {
            self.image = Some(image);
        }
        if let Some(text) = &record.stream {
            self.text(text, show);
        }
        if let Some(status) = &record.status {
            self.status(record, status, show);
        }
        Ok(())
    }

    fn image(&self) -> Option<&str> {
        self.image.as_deref().or(self.said.as_deref())
    }

    fn end(&mut self, failure: Option<&str>, show: &mut dyn Show) {
        let Some(key) = self.step.take() else { return };
        show.show(match failure {
            Some(message) => Event::Failed { key, message: message.to_owned() },
            None => Event::Done { key },
        });
    }
}

impl Text {
    fn text(&mut self, text: &str, show: &mut dyn Show) {
        if let Some(name) = step_name(text) {
            self.end(None, show);
            self.count += 1;
            let key = self.count.to_string();
            show.show(Event::Begin { key: key.clone(), name });
            (self.step, self.running, self.fresh, self.transfers) = (Some(key), false, true, Transfers::default());
            return;
        }
        // The line of a step comes without its end.
        if std::mem::take(&mut self.fresh) && text == "\n" {
            return;
        }
        match remark(text) {
            Some(Remark::Cached) if !self.running => {
                if let Some(key) = self.step.clone() {
                    show.show(Event::Cached { key });
                }
            }
            Some(Remark::Running) => self.running = true,
            Some(Remark::Built(image)) => self.said = Some(image.to_owned()),
            Some(Remark::Intermediate) => {}
            _ => self.output(uncoloured(text), show),
        }
    }

    fn output(&self, bytes: String, show: &mut dyn Show) {
        match &self.step {
            Some(key) => show.show(Event::Output { key: key.clone(), bytes: bytes.into_bytes() }),
            None if bytes.trim().is_empty() => {}
            None => show.show(Event::Note(bytes.trim_end().to_owned())),
        }
    }

    fn status(&mut self, record: &Record, status: &str, show: &mut dyn Show) {
        let transfer = record.progress.as_ref().filter(|progress| progress.total > 0);
        match (transfer, &record.id, &self.step) {
            (Some(progress), Some(id), Some(key)) if status == "Downloading" => {
                let (done, total) = self.transfers.update(id, progress.current, progress.total);
                show.show(Event::Progress { key: key.clone(), done, total });
            }
            // Each layer says several times how it is.
            (_, Some(id), _) if id.len() == 12 => {}
            (None, Some(id), _) => self.output(format!("{id}: {status}\n"), show),
            (None, None, _) => self.output(format!("{status}\n"), show),
            _ => {}
        }
    }
}

enum Remark<'a> {
    Cached,
    Running,
    Intermediate,
    Built(&'a str),
}

/// What the builder says of its own work, between the output of commands.
fn remark(text: &str) -> Option<Remark<'_>> {
    let line = text.strip_suffix('\n')?;
    if let Some(rest) = line.strip_prefix(" ---> ") {
        return match rest {
            "Using cache" => Some(Remark::Cached),
            rest if rest.strip_prefix("Removed intermediate container ").is_some_and(is_short) => {
                Some(Remark::Intermediate)
            }
            rest if rest.strip_prefix("Running in ").is_some_and(is_short) => Some(Remark::Running),
            rest if is_short(rest) => Some(Remark::Intermediate),
            _ => None,
        };
    }
    if let Some(rest) = line.strip_prefix("--> ") {
        let cached = rest.strip_prefix("Using cache ").is_some_and(is_short);
        return if cached { Some(Remark::Cached) } else { is_short(rest).then_some(Remark::Intermediate) };
    }
    if line.strip_prefix("Removing intermediate container ").is_some_and(is_short) {
        return Some(Remark::Intermediate);
    }
    if let Some(image) = line.strip_prefix("Successfully built ").filter(|image| is_short(image)) {
        return Some(Remark::Built(image));
    }
    let own = line.starts_with("Successfully tagged ")
        || crate::names::is_hex(line)
        || line == "COMMIT"
        || line.starts_with("COMMIT ");
    own.then_some(Remark::Intermediate)
}

fn is_short(text: &str) -> bool {
    (8..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `[2/5] RUN make` out of `Step 2/5 : RUN make`, or of Podman's `[1/2] STEP 2/5: RUN make`.
fn step_name(text: &str) -> Option<String> {
    let (stage, rest) = match text.strip_prefix('[').and_then(|rest| rest.split_once("] STEP ")) {
        Some((stage, rest)) if is_part(stage) => (Some(stage), rest),
        Some(_) => return None,
        None => (None, text.strip_prefix("Step ").or_else(|| text.strip_prefix("STEP "))?),
    };
    let (number, instruction) = rest.split_once(": ")?;
    let number = number.trim_end();
    if !is_part(number) {
        return None;
    }
    let instruction = instruction.trim_end();
    Some(match stage {
        Some(stage) => format!("[stage {stage}, {number}] {instruction}"),
        None => format!("[{number}] {instruction}"),
    })
}

/// `2/5`.
fn is_part(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('/').is_some_and(|(one, all)| number(one) && number(all))
}

/// The classic builder colours what a command writes to its standard error.
fn uncoloured(text: &str) -> String {
    text.replace("\u{1b}[91m", "").replace("\u{1b}[0m", "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Records;
    use crate::testing::{Pieces, shown};

    fn follow(text: &str) -> (Vec<String>, Option<String>) {
        let mut records = Records::new(Box::new(Pieces::of(text.as_bytes(), 100)));
        let (mut decoder, mut events) = (Text::default(), Vec::new());
        while let Some(record) = records.record().unwrap() {
            decoder.take(&record, &mut events).unwrap();
        }
        decoder.end(None, &mut events);
        (shown(&events), decoder.image().map(str::to_owned))
    }

    #[test]
    fn docker() {
        let (events, image) = follow(
            r#"{"status":"Pulling from library/base","id":"1"}
{"stream":"Step 1/3 : FROM base:1"}
{"stream":"\n"}
{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"0123456789ab"}
{"status":"Pull complete","progressDetail":{},"id":"0123456789ab"}
{"stream":" ---\u003e 4becfbf62c78\n"}
{"stream":"Step 2/3 : RUN echo hello; echo err \u003e\u00262"}
{"stream":"\n"}
{"stream":" ---\u003e Running in fc422c6d0cbd\n"}
{"stream":"hello\n"}
{"stream":" ---\u003e Using cache\n"}
{"stream":"\u001b[91merr\n\u001b[0m"}
{"stream":"Removing intermediate container fc422c6d0cbd\n"}
{"stream":" ---\u003e Removed intermediate container fc422c6d0cbd\n"}
{"stream":" ---\u003e a43227bfceeb\n"}
{"stream":"Step 3/3 : COPY . /ctx"}
{"stream":"\n"}
{"stream":" ---\u003e Using cache\n"}
{"stream":" ---\u003e bb7e4c72a0a9\n"}
{"aux":{"ID":"sha256:5bf1"}}
{"stream":"Successfully built 5bf1ef50140a\n"}"#,
        );
        assert_eq!(
            events,
            [
                "note 1: Pulling from library/base",
                "1 begin [1/3] FROM base:1",
                "1 progress 5/10",
                "1 done",
                "2 begin [2/3] RUN echo hello; echo err >&2",
                "2 hello\n",
                "2  ---> Using cache\n",
                "2 err\n",
                "2 done",
                "3 begin [3/3] COPY . /ctx",
                "3 cached",
                "3 done",
            ]
        );
        assert_eq!(image.as_deref(), Some("sha256:5bf1"));
    }

    #[test]
    fn podman() {
        let (events, image) = follow(
            r#"{"stream":"[1/2] STEP 1/2: FROM base:1\n"}
{"stream":"[1/2] STEP 2/2: RUN date\n"}
{"stream":"--\u003e Using cache 9c81a1b075a100ddf12c36c795fa1aa7c2e835d59554a3da56217a86a9182e9d\n"}
{"stream":"--\u003e 9c81a1b075a\n"}
{"stream":"STEP 1/1: COPY . /ctx\n"}
{"stream":"COMMIT docker.io/x/y:1\n"}
{"stream":"bbb9a1816cf3b1406c64853f21328afd1b7cc73b5549b6db32dd9dcad47f51ea\n"}
{"stream":"Successfully built bbb9a1816cf3\n"}"#,
        );
        assert_eq!(
            events,
            [
                "1 begin [stage 1/2, 1/2] FROM base:1",
                "1 done",
                "2 begin [stage 1/2, 2/2] RUN date",
                "2 cached",
                "2 done",
                "3 begin [1/1] COPY . /ctx",
                "3 done",
            ]
        );
        assert_eq!(image.as_deref(), Some("bbb9a1816cf3"));
    }

    #[test]
    fn what_only_looks_like_a_step_is_output() {
        let (events, _) = follow(
            r#"{"stream":"Step 1/1 : RUN x"}
{"stream":"Step one: think\n"}
{"stream":"Step a/b : x\n"}
{"stream":" ---\u003e no digest\n"}
{"stream":"no line end"}"#,
        );
        assert_eq!(
            events[1..events.len() - 1],
            ["1 Step one: think\n", "1 Step a/b : x\n", "1  ---> no digest\n", "1 no line end"]
        );
    }
}
