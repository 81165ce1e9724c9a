//! Where results go: `--output`, in the words of `docker buildx build`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use cooperage_store::layers::Archive;
use cooperage_store::{Descriptor, Reference};

use crate::app::App;
use crate::error::{Exit, Failure};

/// One place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// The store, under further names; pushed to their registries or not.
    Image {
        /// None are those of `--tag`.
        names: Vec<Reference>,
        push: bool,
    },
    /// An archive for `docker load`, which is an OCI archive too.
    Docker(PathBuf),
    /// An OCI archive.
    Oci(PathBuf),
    /// An OCI layout.
    OciDirectory(PathBuf),
    /// The files of the image, as an archive.
    Tar(PathBuf),
    /// The files of the image, in a directory.
    Local(PathBuf),
}

/// What an output says, and the compression of new layers that it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) output: Output,
    /// As in `--compression`.
    pub(crate) compression: Option<String>,
}

impl Output {
    /// The file or directory, if it is one; `-` is standard output.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Image { .. } => None,
            Self::Docker(path) | Self::Oci(path) | Self::OciDirectory(path) | Self::Tar(path) | Self::Local(path) => {
                Some(path)
            }
        }
    }

    /// Whether it has an image, and not just its files.
    pub(crate) fn is_image(&self) -> bool {
        !matches!(self, Self::Tar(_) | Self::Local(_))
    }

    /// An output of `coop image export`: a path alone is an archive for Docker.
    pub(crate) fn of_export(text: &str) -> Result<Self, Failure> {
        if !text.contains('=') {
            return Ok(Self::Docker(text.into()));
        }
        match Wanted::read(text)? {
            Wanted { output: output @ (Self::Docker(_) | Self::Oci(_) | Self::OciDirectory(_)), compression: None } => {
                Ok(output)
            }
            _ => Err(Failure::usage(format!("output {text:?} is none of an export"))
                .hint("use type=docker, oci or oci-dir with dest=...; layers stay as they are")),
        }
    }
}

impl Wanted {
    /// An output of `coop build`: a path alone is a directory for the files of the image, and `-` their archive on standard
    /// output.
    pub(crate) fn of_build(text: &str) -> Result<Self, Failure> {
        let output = match text {
            "-" => Output::Tar("-".into()),
            path if !path.contains('=') => Output::Local(path.into()),
            _ => return Self::read(text),
        };
        Ok(Self { output, compression: None })
    }

    fn read(text: &str) -> Result<Self, Failure> {
        let wrong = |what: String| Failure::usage(format!("output {text:?}: {what}"));
        let mut fields = Fields::read(text).map_err(wrong)?;
        let kind = fields.take("type");
        let destination = fields.take("dest").map(PathBuf::from);
        let needed = || {
            let hint = "`dest=-` is standard output";
            destination.clone().ok_or_else(|| wrong("it has no dest=...".to_owned()).hint(hint))
        };
        let mut compression = None;
        let output = match kind.as_deref() {
            Some("docker") | None => Output::Docker(needed()?),
            Some("oci") if fields.flag("tar").map_err(wrong)? == Some(false) => Output::OciDirectory(needed()?),
            Some("oci") => Output::Oci(needed()?),
            Some("oci-dir") => Output::OciDirectory(needed()?),
            Some("tar") => Output::Tar(needed()?),
            Some("local") => Output::Local(needed()?),
            Some(kind @ ("image" | "registry")) => {
                let names = fields.take("name").unwrap_or_default();
                let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
                let names = names.map(|name| Ok(name.parse()?)).collect::<Result<_, Failure>>()?;
                let push = fields.flag("push").map_err(wrong)?.unwrap_or(kind == "registry");
                Output::Image { names, push }
            }
            Some(other) => {
                return Err(wrong(format!("the type {other:?} is unknown"))
                    .hint("use image, registry, oci, oci-dir, docker, tar or local"));
            }
        };
        if output.is_image() {
            compression = fields.compression();
            if fields.flag("oci-mediatypes").map_err(wrong)? == Some(false) {
                return Err(wrong("oci-mediatypes=false is not possible: manifests are those of OCI".to_owned()));
            }
        }
        match fields.rest() {
            Some(unknown) => Err(wrong(format!("{unknown} is nothing that this type knows"))),
            None => Ok(Self { output, compression }),
        }
    }
}

/// `NAME=VALUE` between commas. A field in double quotes has commas of its own, and `""` for a quote, as in CSV.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn read(text: &str) -> Result<Self, String> {
        let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '"' if quoted && letters.next_if_eq(&'"').is_some() => field.push('"'),
                '"' if quoted || field.is_empty() => quoted = !quoted,
                ',' if !quoted => fields.push(std::mem::take(&mut field)),
                letter => field.push(letter),
            }
        }
        if quoted {
            return Err("a double quote is not closed".to_owned());
        }
        fields.push(field);
        let pair = |field: String| match field.split_once('=') {
            Some((name, value)) => Ok((name.trim().to_lowercase(), value.to_owned())),
            None => Err(format!("{field:?} is not of the form NAME=VALUE")),
        };
        fields.into_iter().map(pair).collect::<Result<_, _>>().map(Self)
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, String> {
        match self.take(name).as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(format!("{name}={other} is neither true nor false")),
        }
    }

    /// As in `--compression`.
    fn compression(&mut self) -> Option<String> {
        let kind = self.take("compression").map(|kind| if kind == "uncompressed" { "none".to_owned() } else { kind });
        match (kind, self.take("compression-level")) {
            (kind, None) => kind,
            (kind, Some(level)) => Some(format!("{}:{level}", kind.as_deref().unwrap_or("gzip"))),
        }
    }

    fn rest(&self) -> Option<String> {
        self.0.first().map(|(name, value)| format!("{name}={value}"))
    }
}

/// Writes an image of the store, after its missing layers were fetched.
pub(crate) fn export(app: &App, image: &Descriptor, names: &[Reference], to: &Output) -> Result<(), Failure> {
    let store = app.store()?;
    let archive = |path: &Path, docker: bool| {
        app.complete(image, names)?;
        whole(path, |out| Ok(store.export_archive(image, names, docker, out)?))
    };
    match to {
        Output::OciDirectory(directory) => {
            app.complete(image, names)?;
            Ok(store.export_layout(image, names, directory)?)
        }
        Output::Docker(path) => archive(path, true),
        Output::Oci(path) => archive(path, false),
        // The names are in the store already, the files are written while the build is there.
        Output::Image { .. } | Output::Tar(_) | Output::Local(_) => Ok(()),
    }
}

/// Writes an archive that is made while it is read.
pub(crate) fn write(mut archive: Archive, path: &Path) -> Result<(), Failure> {
    const PIECE: usize = 1 << 20;
    whole(path, |out| {
        loop {
            let bytes = archive.next_bytes(PIECE)?;
            if bytes.is_empty() {
                return Ok(());
            }
            out.write_all(&bytes).map_err(|error| unwritten(path, &error))?;
        }
    })
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    let place = if path == Path::new("-") { "standard output".to_owned() } else { path.display().to_string() };
    Failure::new(Exit::Environment, format!("writing {place}: {error}"))
}

/// Writes to a file that appears whole or not at all, or to standard output.
fn whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    const BUFFER: usize = 1 << 20;
    if path == Path::new("-") {
        return write(&mut BufWriter::with_capacity(BUFFER, std::io::stdout().lock()));
    }
    let failed = |error: std::io::Error| unwritten(path, &error);
    let name = path.file_name().ok_or_else(|| Failure::usage(format!("{} is not a file", path.display())))?;
    let fresh = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let result = File::create(&fresh).map_err(failed).and_then(|file| {
        let mut out = BufWriter::with_capacity(BUFFER, file);
        write(&mut out).map_err(|failure| failure.context(format!("writing {}", path.display())))?;
        out.flush().and_then(|()| std::fs::rename(&fresh, path)).map_err(failed)
    });
    if result.is_err() {
        // The first failure is the one to tell.
        let _ = std::fs::remove_file(&fresh);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_as_people_write_them() {
        let names = |all: &[&str]| all.iter().map(|name| name.parse().unwrap()).collect::<Vec<Reference>>();
        let image = |all: &[&str], push| Output::Image { names: names(all), push };
        for (text, output, compression) in [
            ("out", Output::Local("out".into()), None),
            ("-", Output::Tar("-".into()), None),
            ("type=local,dest=a b", Output::Local("a b".into()), None),
            ("type=tar,dest=x.tar", Output::Tar("x.tar".into()), None),
            ("type=oci,dest=x,tar=false", Output::OciDirectory("x".into()), None),
            ("type=oci,dest=x,tar=true,compression=zstd", Output::Oci("x".into()), Some("zstd")),
            ("dest=x", Output::Docker("x".into()), None),
            ("\"type=docker\",\"dest=a,\"\"b\"\"\"", Output::Docker("a,\"b\"".into()), None),
            ("type=image,name=a:1", image(&["a:1"], false), None),
            ("type=image,\"name=a:1,r.example/b\",push=true", image(&["a:1", "r.example/b"], true), None),
            ("type=registry,compression=gzip,compression-level=9", image(&[], true), Some("gzip:9")),
            ("type=image,compression-level=3,oci-mediatypes=true", image(&[], false), Some("gzip:3")),
            ("type=image,compression=uncompressed", image(&[], false), Some("none")),
        ] {
            let wanted = Wanted { output, compression: compression.map(str::to_owned) };
            assert_eq!(Wanted::of_build(text).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_output_is_said() {
        for (text, part) in [
            ("type=zip,dest=x", "type \\\"zip\\\" is unknown"),
            ("type=oci", "no dest="),
            ("type=tar,dest=x,compression=zstd", "compression=zstd is nothing that this type knows"),
            ("type=image,push=maybe", "push=maybe is neither"),
            ("type=image,name=a:1,force-compression=true", "force-compression=true is nothing"),
            ("type=image,oci-mediatypes=false", "not possible"),
            ("type=local,\"dest=x", "not closed"),
            ("type=local,x", "\\\"x\\\" is not of the form"),
            ("type=image,name=UPPER", "UPPER"),
        ] {
            let failure = format!("{:?}", Wanted::of_build(text).unwrap_err());
            assert!(failure.contains(part), "{text}: {failure}");
        }
        for text in ["type=local,dest=x", "type=oci,dest=x,compression=zstd", "type=image,name=a"] {
            assert!(Output::of_export(text).is_err(), "{text}");
        }
        assert_eq!(Output::of_export("x.tar").unwrap(), Output::Docker("x.tar".into()));
    }
}
