//! Which images of the flow file a step needs, told from the lines of its Dockerfile. Builds nothing, and reads no more of
//! a Dockerfile than that.

use std::path::PathBuf;

use cooperage_flow::{ImageDependencies, StepView};
use serde_json::Value;

/// Knows from the FROM lines of Dockerfiles which images of the file a step builds on.
pub(crate) struct FromLines {
    pub(crate) project: PathBuf,
}

impl ImageDependencies for FromLines {
    fn image_dependencies(&self, step: &StepView<'_>) -> Vec<String> {
        let text = |name: &str| step.with.get(name).and_then(Value::as_str);
        if !["dockerfile", "docker", crate::plugins::BUILD].contains(&step.uses) {
            // A task that runs something names its image; an expression in it makes an edge of its own.
            return text("image")
                .filter(|image| step.uses == "script" && !image.contains("${{"))
                .map(str::to_owned)
                .into_iter()
                .collect();
        }
        if step.input.is_some() {
            return Vec::new();
        }
        let inline = text("dockerfile_inline").map(str::to_owned);
        let path = self.project.join(text("context").unwrap_or(".")).join(text("dockerfile").unwrap_or("Dockerfile"));
        // A file that cannot be read is the step's own fault to tell.
        let content = inline.or_else(|| std::fs::read_to_string(path).ok()).unwrap_or_default();
        images_of(&content)
    }
}

/// The images that a Dockerfile names. The name of a stage means that stage in all lines after it; names with variables
/// cannot be known before the build.
fn images_of(content: &str) -> Vec<String> {
    let lines: Vec<&str> = content.lines().collect();
    let (mut images, mut stages) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((first, rest)) = words.split_first() else { continue };
        let name = match first.to_ascii_uppercase().as_str() {
            "FROM" => rest.iter().find(|word| !word.starts_with("--")).copied(),
            "COPY" => rest.iter().find_map(|word| word.strip_prefix("--from=")),
            _ => None,
        };
        let name = name.map(|name| name.trim_matches(['"', '\'']));
        let named = name.filter(|name| !name.contains('$') && !stages.contains(&name.to_ascii_lowercase()));
        images.extend(named.map(str::to_owned));
        if first.eq_ignore_ascii_case("FROM")
            && let [.., word, stage] = rest
            && word.eq_ignore_ascii_case("AS")
        {
            stages.push(stage.to_ascii_lowercase());
        }
        if ["RUN", "COPY", "ADD"].iter().any(|instruction| first.eq_ignore_ascii_case(instruction)) {
            // The lines of a file that stands in the Dockerfile are no instructions.
            for end in rest.iter().filter_map(|word| heredoc(word)) {
                let length = lines[at..].iter().position(|line| line.trim_start_matches('\t') == end);
                at += length.map_or(0, |length| length + 1);
            }
        }
    }
    images
}

/// The line that ends what a word such as `<<EOF`, `<<-EOF` or `3<<"EOF"` begins.
fn heredoc(word: &str) -> Option<&str> {
    let word = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let end = word.trim_start_matches('-').trim_matches(['"', '\'']);
    (!end.is_empty() && !end.contains('<')).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &str, expected: &[&str]) {
        assert_eq!(images_of(content), expected, "{content}");
    }

    #[test]
    fn images_are_named_by_from_and_copy() {
        check(
            "FROM --platform=linux/amd64 acme/os:1\ncopy --link --from='acme/tool' /a /\n",
            &["acme/os:1", "acme/tool"],
        );
        check("# FROM x\nARG V\nFROM os:$V\nFROM os:${V} AS a\nRUN echo\n", &[]);
    }

    #[test]
    fn a_stage_is_no_image_after_its_line() {
        check("FROM golang as Builder\nFROM scratch\nCOPY --from=builder /a /\nFROM BUILDER\n", &["golang", "scratch"]);
        check("FROM base AS base\nFROM base\n", &["base"]);
        check("FROM scratch\nCOPY --from=later /a /\nFROM golang AS later\n", &["scratch", "later", "golang"]);
    }

    #[test]
    fn a_file_in_the_file_has_no_instructions() {
        check("FROM a\nRUN <<EOF cat > x\nFROM b\nEOF\nFROM c\n", &["a", "c"]);
        check("FROM a\nCOPY <<\"ONE\" <<-'TWO' /x/\nFROM b\nONE\nFROM c\n\tTWO\nFROM d\n", &["a", "d"]);
        // What only looks like one hides nothing.
        check("FROM a\nRUN echo $((1<<2)) <<< x << y <<NEVER\nFROM b\n", &["a", "b"]);
    }
}
