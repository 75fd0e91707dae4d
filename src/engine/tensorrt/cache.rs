//! Built engines, kept in a folder: a model is built once for each GPU, driver, release and set of options.
//!
//! An engine is code that runs on the GPU and in this process. So the folder is created for its owner alone, a folder
//! that others own or may write to is refused, and of a file everything is checked before TensorRT sees it.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, DirEntry, File, Metadata};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::builder::{
    Batches, BuildOptions, DeviceIdentity, OnnxModel, Precision, Progress, build,
};
use super::engine::{Engine, LoadOptions};
use super::error::TensorRtError;
use super::library::Library;
use super::log;
use super::version::Version;

/// The first bytes of every file; the last is the version of the layout and of the way engines are built. After
/// them follow the key, the SHA-256 of the content, and the content.
const MAGIC: &[u8; 8] = b"RSDTRT\0\x01";

/// Files that are still being written; a process that is killed leaves its own behind.
const UNFINISHED: &str = ".rsdetectnet-unfinished-";
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

const DIGEST_SIZE: usize = 32;
const HEADER_SIZE: usize = MAGIC.len() + 2 * DIGEST_SIZE;

#[derive(Debug, Error)]
pub enum CacheError {
    #[error("{path} cannot be used to keep engines: {source}; choose another engine-cache", path = .path.display())]
    Io { path: PathBuf, source: io::Error },

    #[error(
        "{path} cannot be used to keep engines, because it belongs to user {owner} and an engine is code; \
         choose another engine-cache",
        path = .path.display()
    )]
    ForeignOwner { path: PathBuf, owner: u32 },

    #[error(
        "{path} cannot be used to keep engines, because other users may write to it and an engine is code; \
         run chmod go-w on it, or choose another engine-cache",
        path = .path.display()
    )]
    WritableByOthers { path: PathBuf },

    #[error("{path} is not what was kept: {reason}", path = .path.display())]
    Corrupt { path: PathBuf, reason: &'static str },
}

/// What is kept of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The engine file.
    Engine,
    /// What [`Engine::runtime_cache`] gave.
    Kernels,
}

impl Entry {
    fn extension(self) -> &'static str {
        match self {
            Self::Engine => "engine-cache",
            Self::Kernels => "kernel-cache",
        }
    }
}

/// All that an engine depends on, as a SHA-256, and a name for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineKey {
    name: String,
    digest: [u8; DIGEST_SIZE],
}

impl EngineKey {
    /// # Errors
    /// [`TensorRtError::Read`] where a file of external weights cannot be read.
    pub fn new(
        model: &OnnxModel<'_>,
        options: &BuildOptions,
        version: Version,
    ) -> Result<Self, TensorRtError> {
        let mut fields = Fields(Sha256::new());
        fields.add(MAGIC);
        fields.add(version.to_string().as_bytes());
        fields.add(model.bytes);
        for path in model.external_files {
            fields.add(&digest_of_file(path)?);
        }
        fields.add_options(options);
        let name = model.path.and_then(Path::file_stem).unwrap_or_default();
        Ok(Self {
            name: file_name(&name.to_string_lossy()),
            digest: fields.0.finalize().into(),
        })
    }

    fn file_name(&self, entry: Entry) -> String {
        let mut name = format!("{}-", self.name);
        for byte in &self.digest[..8] {
            let _ = write!(name, "{byte:02x}");
        }
        format!("{name}.{}", entry.extension())
    }
}

/// Hashes fields one after the other, each with its length, so that no two lists of fields give the same bytes.
struct Fields(Sha256);

impl Fields {
    fn add(&mut self, field: &[u8]) {
        self.0.update((field.len() as u64).to_le_bytes());
        self.0.update(field);
    }

    fn add_number(&mut self, number: Option<u64>) {
        let bytes = number.map(u64::to_le_bytes);
        self.add(bytes.as_ref().map_or(&[], |bytes| &bytes[..]));
    }

    fn add_sizes(&mut self, sizes: impl Iterator<Item = impl Into<i64>>) {
        let bytes: Vec<u8> = sizes.flat_map(|size| size.into().to_le_bytes()).collect();
        self.add(&bytes);
    }

    fn add_options(&mut self, options: &BuildOptions) {
        let BuildOptions {
            precision,
            batches,
            dla_core,
            workspace_bytes,
            input_shapes,
            device:
                DeviceIdentity {
                    name,
                    compute_capability: (major, minor),
                    driver_version,
                },
        } = options;
        self.add(match precision {
            Precision::Auto => b"auto",
            Precision::Fp32 => b"fp32",
            Precision::Fp16 => b"fp16",
            Precision::Int8 => b"int8",
        });
        let kind: &[u8] = match batches {
            Batches::UpTo(_) => b"up to",
            Batches::Each(_) => b"each",
        };
        self.add(kind);
        self.add_sizes(batches.sizes().into_iter());
        self.add_number(dla_core.map(u64::from));
        self.add_number(*workspace_bytes);
        self.add_number(Some(input_shapes.len() as u64));
        for (input, sizes) in input_shapes {
            self.add(input.as_bytes());
            self.add_sizes(sizes.iter().copied());
        }
        self.add(name.as_bytes());
        self.add_number(Some((*major).into()));
        self.add_number(Some((*minor).into()));
        self.add(driver_version.as_bytes());
    }
}

fn digest_of_file(path: &Path) -> Result<[u8; DIGEST_SIZE], TensorRtError> {
    let hash = || {
        let mut hasher = Sha256::new();
        let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
        loop {
            let bytes = file.fill_buf()?;
            if bytes.is_empty() {
                return Ok(hasher.finalize().into());
            }
            hasher.update(bytes);
            let count = bytes.len();
            file.consume(count);
        }
    };
    hash().map_err(|error: io::Error| TensorRtError::Read {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// A name as part of a file name: at most 64 letters, digits, dots, dashes and underscores.
fn file_name(name: &str) -> String {
    let plain = |character: char| {
        if character.is_ascii_alphanumeric() || "._-".contains(character) {
            character
        } else {
            '_'
        }
    };
    let name: String = name.chars().take(64).map(plain).collect();
    if name.is_empty() {
        "model".to_owned()
    } else {
        name
    }
}

/// A folder of built engines.
#[derive(Clone, Debug)]
pub struct EngineCache {
    folder: PathBuf,
}

/// An engine that is ready to run, and where it is kept.
#[derive(Debug)]
pub struct KeptEngine {
    pub engine: Engine,
    pub key: EngineKey,
    /// Whether it had to be built.
    pub was_built: bool,
}

impl EngineCache {
    /// `rsdetectnet` in `$XDG_CACHE_HOME`, else in `~/.cache`; none where there is no home.
    pub fn default_folder() -> Option<PathBuf> {
        let absolute = |name: &str| {
            let path = PathBuf::from(std::env::var_os(name)?);
            path.is_absolute().then_some(path)
        };
        let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        Some(caches?.join("rsdetectnet"))
    }

    /// Opens a folder, and makes it, with mode 0700, where it is not there.
    ///
    /// # Errors
    /// [`CacheError::ForeignOwner`], [`CacheError::WritableByOthers`], or what the file system says.
    pub fn open(folder: &Path) -> Result<Self, CacheError> {
        let failed = |source| CacheError::Io {
            path: folder.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed)?;
        let metadata = fs::metadata(folder).map_err(failed)?;
        check_owner(folder, &metadata)?;
        remove_leftovers(folder);
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// What is kept under a key; `None` where nothing is.
    ///
    /// # Errors
    /// [`CacheError`] where the file is another user's, damaged, or of another key.
    pub fn read(&self, key: &EngineKey, entry: Entry) -> Result<Option<Vec<u8>>, CacheError> {
        let path = self.folder.join(key.file_name(entry));
        let failed = |source| CacheError::Io {
            path: path.clone(),
            source,
        };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        check_owner(&path, &file.metadata().map_err(failed)?)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        match check_content(&bytes, key) {
            Ok(()) => Ok(Some(bytes.split_off(HEADER_SIZE))),
            Err(reason) => Err(CacheError::Corrupt { path, reason }),
        }
    }

    /// Keeps `content`. The file appears under its name whole or not at all, whatever happens in between.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn write(&self, key: &EngineKey, entry: Entry, content: &[u8]) -> Result<(), CacheError> {
        let path = self.folder.join(key.file_name(entry));
        let write = || {
            let mut file = tempfile::Builder::new()
                .prefix(UNFINISHED)
                .tempfile_in(&self.folder)?;
            file.write_all(MAGIC)?;
            file.write_all(&key.digest)?;
            file.write_all(&Sha256::digest(content))?;
            file.write_all(content)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source: io::Error| CacheError::Io {
            path: path.clone(),
            source,
        })
    }

    /// The engine of a model: loaded from the cache, or else built and kept. What is kept but cannot be used is built
    /// anew, with a warning in the log.
    ///
    /// # Errors
    /// Those of [`build`] and [`Engine::deserialize`]. That it cannot be kept is a warning.
    pub fn load_or_build(
        &self,
        library: &Library,
        model: &OnnxModel<'_>,
        options: &BuildOptions,
        progress: &mut (dyn FnMut(Progress<'_>) -> ControlFlow<()> + Send),
    ) -> Result<KeptEngine, TensorRtError> {
        let key = EngineKey::new(model, options, library.version())?;
        let load_options = LoadOptions {
            dla_core: options.dla_core,
            runtime_cache: None,
        };
        let kept = |engine, key, was_built| KeptEngine {
            engine,
            key,
            was_built,
        };
        if let Some(plan) = self.read_or_warn(&key, Entry::Engine) {
            let kernels = self.read_or_warn(&key, Entry::Kernels);
            let load_options = LoadOptions {
                runtime_cache: kernels.as_deref(),
                ..load_options
            };
            match Engine::deserialize(library, &plan, load_options) {
                Ok(engine) => return Ok(kept(engine, key, false)),
                Err(error) => gst::warning!(log::category(), "building anew: {error}"),
            }
        }
        let plan = build(library, model, options, progress)?;
        if let Err(error) = self.write(&key, Entry::Engine, &plan) {
            gst::warning!(log::category(), "the engine is not kept: {error}");
        }
        let engine = Engine::deserialize(library, &plan, load_options)?;
        Ok(kept(engine, key, true))
    }

    /// Keeps the kernels that TensorRT-RTX compiled while the engine ran, so that the next start finds them; does
    /// nothing in TensorRT proper. To be called once every batch size has run.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn keep_kernels(&self, kept: &KeptEngine) -> Result<(), CacheError> {
        match kept.engine.runtime_cache() {
            Some(kernels) => self.write(&kept.key, Entry::Kernels, &kernels),
            None => Ok(()),
        }
    }

    fn read_or_warn(&self, key: &EngineKey, entry: Entry) -> Option<Vec<u8>> {
        self.read(key, entry).unwrap_or_else(|error| {
            gst::warning!(log::category(), "building anew: {error}");
            None
        })
    }
}

/// Removes what killed processes left. Whatever cannot be removed only takes space.
fn remove_leftovers(folder: &Path) {
    let is_leftover = |entry: &DirEntry| {
        let age = entry.metadata().and_then(|metadata| metadata.modified());
        let age = age.ok().and_then(|time| time.elapsed().ok());
        entry.file_name().to_string_lossy().starts_with(UNFINISHED)
            && age.is_some_and(|age| age > LEFTOVER_AGE)
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_leftover(&entry) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), CacheError> {
    let path = path.to_owned();
    let owner = metadata.uid();
    if owner != rustix::process::geteuid().as_raw() {
        Err(CacheError::ForeignOwner { path, owner })
    } else if metadata.mode() & 0o022 != 0 {
        Err(CacheError::WritableByOthers { path })
    } else {
        Ok(())
    }
}

fn check_content(bytes: &[u8], key: &EngineKey) -> Result<(), &'static str> {
    let (header, content) = bytes
        .split_at_checked(HEADER_SIZE)
        .ok_or("the file is too short")?;
    let (magic, digests) = header.split_at(MAGIC.len());
    let (stored_key, digest) = digests.split_at(DIGEST_SIZE);
    if magic != MAGIC {
        return Err("it is not a file of this version of rsdetectnet");
    }
    if stored_key != key.digest {
        return Err("it belongs to another model or other options");
    }
    if digest != Sha256::digest(content).as_slice() {
        return Err("its content is damaged");
    }
    Ok(())
}
