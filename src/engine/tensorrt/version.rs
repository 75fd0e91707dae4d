//! Releases of TensorRT, and which shim serves which.

use std::fmt;

use super::shim::Shim;

/// A release of TensorRT or TensorRT-RTX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub is_rtx: bool,
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Version {
    /// From what `getInferLibVersion()` returns: up to TensorRT 8 major x 1000 + minor x 100 + patch, since
    /// TensorRT 10 and in TensorRT-RTX major x 10000 + minor x 100 + patch (`NV_TENSORRT_VERSION`).
    pub fn from_number(number: u32, is_rtx: bool) -> Self {
        let unit = if number >= 10_000 { 10_000 } else { 1_000 };
        Self {
            is_rtx,
            major: number / unit,
            minor: number % unit / 100,
            patch: number % 100,
        }
    }

    /// Within a generation the virtual tables only grow (`NvInferImpl.h`). A new one began with each major version
    /// of TensorRT and with TensorRT-RTX 1.5, which dropped functions, so that others moved up.
    fn generation(self) -> (bool, u32, bool) {
        (self.is_rtx, self.major, self.is_rtx && self.minor >= 5)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.is_rtx {
            "TensorRT-RTX"
        } else {
            "TensorRT"
        };
        let Version {
            major,
            minor,
            patch,
            ..
        } = self;
        write!(formatter, "{family} {major}.{minor}.{patch}")
    }
}

/// The headers a shim was compiled against, and the oldest library that has every function it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShimVersion {
    pub headers: Version,
    pub oldest_minor: u32,
}

impl ShimVersion {
    pub(super) fn of(shim: &Shim) -> Self {
        Self {
            headers: Version {
                is_rtx: shim.is_rtx != 0,
                major: shim.major.unsigned_abs(),
                minor: shim.minor.unsigned_abs(),
                patch: shim.patch.unsigned_abs(),
            },
            oldest_minor: shim.oldest_minor.unsigned_abs(),
        }
    }
}

/// Which shim serves a library: of those of its generation that call nothing it lacks, the newest that is not
/// newer than the library, else the oldest.
pub(super) fn choose(shims: &[ShimVersion], library: Version) -> Option<usize> {
    let fits = |shim: &ShimVersion| {
        shim.headers.generation() == library.generation() && shim.oldest_minor <= library.minor
    };
    let fitting = || (0..shims.len()).filter(|&index| fits(&shims[index]));
    let minor = |&index: &usize| shims[index].headers.minor;
    fitting()
        .filter(|index| minor(index) <= library.minor)
        .max_by_key(minor)
        .or_else(|| fitting().min_by_key(minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(is_rtx: bool, major: u32, minor: u32) -> Version {
        Version {
            is_rtx,
            major,
            minor,
            patch: 0,
        }
    }

    fn shim(is_rtx: bool, major: u32, minor: u32, oldest_minor: u32) -> ShimVersion {
        ShimVersion {
            headers: release(is_rtx, major, minor),
            oldest_minor,
        }
    }

    fn chosen(shims: &[ShimVersion], library: Version) -> Option<String> {
        choose(shims, library).map(|index| shims[index].headers.to_string())
    }

    #[test]
    fn the_number_of_every_release_reads_as_its_version() {
        for (number, is_rtx, name) in [
            (8503, false, "TensorRT 8.5.3"),
            (8601, false, "TensorRT 8.6.1"),
            (100_300, false, "TensorRT 10.3.0"),
            (101_602, false, "TensorRT 10.16.2"),
            (110_400, false, "TensorRT 11.4.0"),
            (10_400, true, "TensorRT-RTX 1.4.0"),
        ] {
            assert_eq!(Version::from_number(number, is_rtx).to_string(), name);
        }
    }

    #[test]
    fn the_newest_headers_that_are_not_newer_than_the_library_serve_it() {
        let shims = [
            shim(false, 10, 3, 0),
            shim(false, 10, 8, 0),
            shim(false, 10, 16, 0),
            shim(false, 11, 4, 0),
        ];
        let serves = |minor| chosen(&shims, release(false, 10, minor));
        assert_eq!(serves(8).as_deref(), Some("TensorRT 10.8.0"));
        assert_eq!(serves(12).as_deref(), Some("TensorRT 10.8.0"));
        assert_eq!(serves(30).as_deref(), Some("TensorRT 10.16.0"));
    }

    #[test]
    fn newer_headers_serve_a_library_that_has_all_they_call() {
        let shims = [shim(false, 11, 4, 0), shim(false, 8, 6, 6)];
        let served = chosen(&shims, release(false, 11, 1));
        assert_eq!(served.as_deref(), Some("TensorRT 11.4.0"));
        assert_eq!(chosen(&shims, release(false, 8, 5)), None);
    }

    #[test]
    fn headers_of_another_generation_never_serve() {
        let shims = [
            shim(true, 1, 4, 3),
            shim(true, 1, 7, 5),
            shim(false, 11, 4, 0),
        ];
        let rtx = |minor| chosen(&shims, release(true, 1, minor));
        assert_eq!(rtx(3).as_deref(), Some("TensorRT-RTX 1.4.0"));
        assert_eq!(rtx(4).as_deref(), Some("TensorRT-RTX 1.4.0"));
        assert_eq!(rtx(5).as_deref(), Some("TensorRT-RTX 1.7.0"));
        assert_eq!(chosen(&shims[..1], release(true, 1, 5)), None);
        assert_eq!(chosen(&shims, release(false, 10, 4)), None);
        assert_eq!(chosen(&shims, release(false, 1, 4)), None);
    }
}
