"""rsdetectnet from Python: what it found, and its frames as arrays where they lie.

Needs PyGObject (python3-gi, gir1.2-gst-plugins-base-1.0) and the plugin; NumPy for to_numpy and from_numpy.

    import rsdetectnet

    def on_frame(sink):
        sample = sink.emit("pull-sample")
        for found in rsdetectnet.detections(sample):
            print(found.label, found.confidence, found.x, found.y, found.width, found.height)
        image = rsdetectnet.to_numpy(sample)  # of video/x-raw, or
        image = torch.from_dlpack(rsdetectnet.to_cuda(sample))  # of memory:CUDAMemory and memory:NVMM

Frames are a Gst.Sample, or a Gst.Buffer with its caps, as a pad probe has them:
to_numpy(info.get_buffer(), pad.get_current_caps()).
"""

import ctypes
import functools
import typing
import weakref

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstVideo  # noqa: E402

__all__ = ["Crop", "Detection", "crop", "detections", "to_numpy", "to_cuda", "from_numpy", "from_cuda"]


class Detection(typing.NamedTuple):
    """An object that was found. x, y is the upper left corner; all lengths are pixels of the frame."""

    label: str
    class_id: int
    confidence: float
    x: float
    y: float
    width: float
    height: float
    #: The identity that a tracker gave, stable over frames; None where the object is not tracked.
    object_id: typing.Optional[int]
    #: The frame of a buffer of nvstreammux, counted from 0; 0 in all other buffers.
    batch_id: int
    #: The grey thumbnail of the object, row by row, where hash-size asks for it; None elsewhere.
    hash: typing.Optional[bytes] = None
    #: Whether it was not found but is expected there by a tracker: the frame was not inspected.
    predicted: bool = False


def detections(frame):
    """The detections that rsdetectnet attached to a Gst.Buffer or Gst.Sample, best first."""
    buffer, _ = _buffer_and_caps("detections", frame, None)
    library = _plugin()
    count = library.rsdetectnet_detections(hash(buffer), None, 0)
    found = (_Detection * count)()
    library.rsdetectnet_detections(hash(buffer), found, count)
    return [
        Detection(
            each.label.decode(),
            each.class_id,
            each.confidence,
            each.x,
            each.y,
            each.width,
            each.height,
            None if each.object_id < 0 else each.object_id,
            each.batch_id,
            ctypes.string_at(each.hash, each.hash_size) if each.hash_size else None,
            bool(each.predicted),
        )
        for each in found
    ]


class Crop(typing.NamedTuple):
    """What a buffer of the pad crops shows. x, y is the upper left corner in the frame that it was cut out of; all
    lengths are pixels of that frame, also where the crop was resized."""

    label: str
    class_id: int
    confidence: float
    x: int
    y: int
    width: int
    height: int
    frame_width: int
    frame_height: int
    #: The frame's number since the stream started, from 0.
    frame: int
    #: The identity that a tracker gave, stable over frames; None where the object is not tracked.
    object_id: typing.Optional[int]
    #: The frame of a buffer of nvstreammux, counted from 0; 0 in all other buffers.
    batch_id: int
    #: The grey thumbnail of the object, row by row, where hash-size asks for it; None elsewhere.
    hash: typing.Optional[bytes] = None


def crop(frame):
    """What a Gst.Buffer or Gst.Sample of the pad crops shows; None for all others. Its pixels are those of any frame:
    to_numpy(frame)."""
    buffer, _ = _buffer_and_caps("crop", frame, None)
    meta = buffer.get_custom_meta("rsdetectnet-crop")
    if meta is None:
        return None
    details = meta.get_structure()
    names = ["label", "label_id", "confidence", "x", "y", "w", "h", "frame_width", "frame_height", "frame"]
    object_id, batch_id, hash_ = (
        details.get_value(name) if details.has_field(name) else None for name in ("object_id", "batch_id", "hash")
    )
    look = None if hash_ is None else hash_.get_data()
    return Crop(*(details.get_value(name) for name in names), object_id, batch_id or 0, look)


def to_numpy(frame, caps=None):
    """A frame in system memory as NumPy sees it, without a copy: an array of height x width x channels, of height x
    width for GRAY8, and a tuple of arrays, one a plane, for NV12 (Y, UV), I420 (Y, U, V) and their like. The arrays
    cannot be written to, and keep the frame alive."""
    import numpy

    planes = _map("to_numpy", frame, caps, 0, on_gpu=False)
    arrays = tuple(numpy.asarray(plane) for plane in planes)
    return arrays[0] if len(arrays) == 1 else arrays


def to_cuda(frame, caps=None, batch_id=0):
    """A frame in GPU memory (memory:CUDAMemory or memory:NVMM), without a copy: a CudaArray shaped as the arrays of
    to_numpy, or a tuple of them, one a plane. PyTorch (torch.from_dlpack, torch.as_tensor), CuPy (cupy.asarray) and
    Numba (numba.cuda.as_cuda_array) take it as it is. It keeps the frame alive; what is written to it is written to
    the frame. batch_id chooses a frame of a buffer of nvstreammux."""
    planes = _map("to_cuda", frame, caps, batch_id, on_gpu=True)
    return planes[0] if len(planes) == 1 else planes


def from_numpy(array, format=None, pts=None, duration=None, framerate="0/1"):
    """A Gst.Sample with a copy of the array, for appsrc.emit("push-sample", sample).

    The array holds bytes and is shaped as to_numpy returns it; format is RGB, RGBA or GRAY8 by its shape unless it
    is given, and must be given with a tuple of planes. pts and duration are in nanoseconds."""
    import numpy

    arrays = _planes_of("from_numpy", array, lambda plane: isinstance(plane, numpy.ndarray), "a NumPy array")
    format, width, height = _format_of("from_numpy", [plane.shape for plane in arrays], format)
    for plane in arrays:
        if plane.dtype != numpy.dtype(_typestr(format)):
            raise ValueError(f"{format} has samples of {numpy.dtype(_typestr(format))}, not {plane.dtype}")
    caps = _caps(format, width, height, framerate)
    info = GstVideo.VideoInfo.new_from_caps(caps)
    buffer = Gst.Buffer.new_allocate(None, info.size, None)
    mapped = _MapInfo()
    if not _gstreamer().gst_buffer_map(hash(buffer), ctypes.byref(mapped), _MAP_WRITE):
        raise MemoryError(f"there is no memory for a frame of {width}x{height}")
    try:
        for index, plane in enumerate(arrays):
            strides = _strides(plane.shape, info.stride[index], plane.itemsize)
            target = _HostPlane(None, index, mapped.data + info.offset[index], plane.shape, strides, plane.dtype.str, True)
            numpy.asarray(target)[...] = plane
    finally:
        _gstreamer().gst_buffer_unmap(hash(buffer), ctypes.byref(mapped))
    if pts is not None:
        buffer.pts = pts
    if duration is not None:
        buffer.duration = duration
    return Gst.Sample.new(buffer, caps, None, None)


def from_cuda(array, format=None, pts=None, duration=None, framerate="0/1"):
    """A Gst.Sample of memory:CUDAMemory with a copy of the array, made on the GPU, for appsrc.emit("push-sample").

    The array is a PyTorch, CuPy or Numba array on a GPU, or a tuple of them, as from_numpy takes NumPy's; its rows
    are contiguous. Work on it in streams other than the default one must be finished."""
    takes = "an array of PyTorch, CuPy or Numba on a GPU"
    arrays = _planes_of("from_cuda", array, lambda plane: _cuda_interface(plane) is not None, takes)
    interfaces = [_cuda_interface(plane) for plane in arrays]
    format, width, height = _format_of("from_cuda", [tuple(each["shape"]) for each in interfaces], format)
    planes = (_Plane * len(interfaces))()
    for plane, interface in zip(planes, interfaces):
        if interface["typestr"] != _typestr(format):
            raise ValueError(f"{format} has samples of {_typestr(format)}, not {interface['typestr']}")
        plane.address = interface["data"][0]
        plane.stride = _row_stride(interface)
    streams = {each.get("stream") for each in interfaces} - {None}
    if len(streams) > 1:
        raise ValueError("from_cuda takes planes that one stream writes")
    sample = Gst.Sample.new(None, _caps(format, width, height, framerate, "(memory:CUDAMemory)"), None, None)
    error = ctypes.create_string_buffer(_SENTENCE)
    times = [_NO_TIME if time is None else time for time in (pts, duration)]
    stream = streams.pop() if streams else None
    if not _plugin().rsdetectnet_copy_to_cuda(hash(sample), planes, len(planes), stream, *times, error, _SENTENCE):
        raise ValueError(error.value.decode())
    return sample


class CudaArray:
    """A plane in GPU memory, for every library that knows __cuda_array_interface__ or DLPack."""

    def __init__(self, mapping, plane, address, shape, strides, typestr, gpu_id):
        self._mapping = mapping
        self._plane = plane
        self._address = address
        self._gpu_id = gpu_id
        self.shape = shape
        self.strides = strides
        self.typestr = typestr

    def __repr__(self):
        return f"<CudaArray {self.shape} {self.typestr} on GPU {self._gpu_id}>"

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.shape,
            "strides": self.strides,
            "typestr": self.typestr,
            "data": (self._address, False),
            "version": 3,
            # The frame was finished when it was mapped.
            "stream": None,
        }

    def __dlpack_device__(self):
        return (_DL_CUDA, self._gpu_id)

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if copy:
            raise BufferError("the frame is not copied; copy what you get")
        if dl_device not in (None, self.__dlpack_device__()):
            raise BufferError(f"the frame is on GPU {self._gpu_id}, and stays there")
        return self._mapping.capsule(self._plane)


class _HostPlane:
    """A plane in system memory, as NumPy takes it."""

    def __init__(self, mapping, plane, address, shape, strides, typestr, writable=False):
        self._mapping = mapping
        self.__array_interface__ = {
            "shape": shape,
            "strides": strides,
            "typestr": typestr,
            "data": (address, not writable),
            "version": 3,
        }


def _buffer_and_caps(function, frame, caps):
    if isinstance(frame, Gst.Sample):
        buffer, caps = frame.get_buffer(), caps or frame.get_caps()
        if buffer is None:
            raise ValueError(f"{function} was given a Gst.Sample without a buffer")
    elif isinstance(frame, Gst.Buffer):
        buffer = frame
    else:
        raise TypeError(
            f"{function} takes a Gst.Sample, or a Gst.Buffer and its caps, not {type(frame).__name__}; in a pad "
            "probe pass info.get_buffer() and pad.get_current_caps()"
        )
    if not isinstance(caps, (Gst.Caps, type(None))):
        raise TypeError(f"{function} takes caps as a Gst.Caps, not {type(caps).__name__}: Gst.Caps.from_string(text)")
    return buffer, caps


def _map(function, frame, caps, batch_id, on_gpu):
    buffer, caps = _buffer_and_caps(function, frame, caps)
    library = _plugin()
    described = _Frame()
    error = ctypes.create_string_buffer(_SENTENCE)
    handle = library.rsdetectnet_map(
        hash(buffer), hash(caps) if caps else None, batch_id, ctypes.byref(described), error, _SENTENCE
    )
    if not handle:
        raise ValueError(f"{function}: {error.value.decode()}")
    mapping = _Mapping(library, handle)
    if on_gpu != (described.gpu_id >= 0):
        where, other = ("system", "to_numpy") if on_gpu else ("GPU", "to_cuda")
        raise ValueError(f"{function}: the frame is in {where} memory; {other} takes it")
    format = described.format.decode()
    typestr = _typestr(format)
    planes = []
    for index, shape in enumerate(_shapes(format, described.width, described.height)):
        plane = described.planes[index]
        strides = _strides(shape, plane.stride, int(typestr[2:]))
        layout = (mapping, index, plane.address, shape, strides, typestr)
        planes.append(CudaArray(*layout, described.gpu_id) if on_gpu else _HostPlane(*layout))
    return tuple(planes)


class _Mapping:
    """Holds a mapped buffer until nothing refers to its planes any more."""

    def __init__(self, library, handle):
        self._library = library
        self._handle = handle
        finalizer = weakref.finalize(self, library.rsdetectnet_unmap, handle)
        finalizer.atexit = False

    def capsule(self, plane):
        """A plane as DLPack passes it on; the tensor in it holds the buffer as well, even after Python has ended."""
        error = ctypes.create_string_buffer(_SENTENCE)
        tensor = self._library.rsdetectnet_dlpack(self._handle, plane, error, _SENTENCE)
        if not tensor:
            raise BufferError(error.value.decode())
        return _capsule()(tensor)


def _planes_of(function, array, fits, takes):
    planes = list(array) if isinstance(array, (tuple, list)) else [array]
    for plane in planes:
        if not fits(plane):
            raise TypeError(f"{function} takes {takes}, or a tuple of them, one a plane, not {type(plane).__name__}")
    if not planes:
        raise ValueError(f"{function} was given no plane")
    return planes


def _format_of(function, shapes, format):
    first = shapes[0]
    if format is None:
        by_shape = {(3, 3): "RGB", (3, 4): "RGBA"}
        format = "GRAY8" if len(first) == 2 else by_shape.get((len(first), first[-1] if first else 0))
        if format is None or len(shapes) > 1:
            raise ValueError(f"{function}: say which format has planes of {list(shapes)}, as format='NV12'")
    if len(first) < 2:
        raise ValueError(f"{function}: {first} is not the shape of an image, which is height x width x channels")
    height, width = first[:2]
    wanted = _shapes(format, width, height)
    if list(shapes) != wanted:
        raise ValueError(f"{function}: {format} of {width}x{height} has planes of {wanted}, not {list(shapes)}")
    return format, width, height


_CHANNELS = {
    "RGB": 3, "BGR": 3, "RGBA": 4, "BGRA": 4, "RGBx": 4, "BGRx": 4, "ARGB": 4, "xRGB": 4, "GRAY8": 1,
    "YUY2": 2, "UYVY": 2, "NV12": 1, "NV21": 1, "P010_10LE": 1, "I420": 1,
}  # fmt: skip


def _shapes(format, width, height):
    """The shapes of a format's planes; 4:2:2 in one plane has two channels, of luma and of chroma."""
    if format not in _CHANNELS:
        raise ValueError(f"{format} is none of {', '.join(_CHANNELS)}")
    channels = _CHANNELS[format]
    half = ((height + 1) // 2, (width + 1) // 2)
    if format in ("YUY2", "UYVY"):
        width = 2 * half[1]
    first = (height, width, channels) if channels > 1 else (height, width)
    if format in ("NV12", "NV21", "P010_10LE"):
        return [first, (*half, 2)]
    return [first, half, half] if format == "I420" else [first]


def _typestr(format):
    return "<u2" if format == "P010_10LE" else "|u1"


def _strides(shape, stride, itemsize):
    return (stride, itemsize) if len(shape) == 2 else (stride, shape[2] * itemsize, itemsize)


def _row_stride(interface):
    shape, itemsize = tuple(interface["shape"]), int(interface["typestr"][2:])
    row = itemsize
    for length in shape[1:]:
        row *= length
    strides = interface.get("strides")
    if strides is None:
        return row
    if strides[0] < row or tuple(strides) != _strides(shape, strides[0], itemsize):
        raise ValueError("from_cuda takes arrays whose rows are contiguous; call contiguous() or ascontiguousarray()")
    return strides[0]


def _cuda_interface(array):
    """None for what is not on a GPU; PyTorch raises other errors than AttributeError for its CPU tensors."""
    try:
        return array.__cuda_array_interface__
    except Exception:
        return None


def _caps(format, width, height, framerate, features=""):
    text = f"video/x-raw{features},format={format},width={width},height={height},framerate={framerate}"
    return Gst.Caps.from_string(text)


# The C functions of pipelines/rsdetectnet.h and of GStreamer. Python's hash of a Gst.Buffer, Gst.Sample or Gst.Caps
# is its address.

_DL_CUDA = 2
_SENTENCE = 1024
_NO_TIME = 2**64 - 1
_MAP_WRITE = 2


class _Detection(ctypes.Structure):
    _fields_ = [
        ("label", ctypes.c_char_p),
        ("class_id", ctypes.c_uint32),
        ("confidence", ctypes.c_float),
        ("x", ctypes.c_float),
        ("y", ctypes.c_float),
        ("width", ctypes.c_float),
        ("height", ctypes.c_float),
        ("object_id", ctypes.c_int64),
        ("batch_id", ctypes.c_uint32),
        ("hash_size", ctypes.c_uint32),
        ("hash", ctypes.c_void_p),
        ("predicted", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    ]


class _Plane(ctypes.Structure):
    _fields_ = [("address", ctypes.c_uint64), ("stride", ctypes.c_uint64)]


class _Frame(ctypes.Structure):
    _fields_ = [
        ("format", ctypes.c_char_p),
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("gpu_id", ctypes.c_int32),
        ("plane_count", ctypes.c_uint32),
        ("planes", _Plane * 3),
    ]


class _MapInfo(ctypes.Structure):
    """GstMapInfo."""

    _fields_ = [
        ("memory", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("maxsize", ctypes.c_size_t),
        ("user_data", ctypes.c_void_p * 4),
        ("reserved", ctypes.c_void_p * 4),
    ]


@functools.lru_cache(maxsize=None)
def _plugin():
    plugin = Gst.Registry.get().find_plugin("rsdetectnet")
    if plugin is None or plugin.get_filename() is None:
        raise RuntimeError(
            "GStreamer finds no plugin rsdetectnet: call Gst.init first, and set GST_PLUGIN_PATH to the folder of "
            "libgstrsdetectnet.so"
        )
    library = ctypes.CDLL(plugin.get_filename())
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    number, time = ctypes.c_uint32, ctypes.c_uint64
    library.rsdetectnet_detections.argtypes = [pointer, pointer, size]
    library.rsdetectnet_detections.restype = size
    library.rsdetectnet_map.argtypes = [pointer, pointer, number, pointer, text, size]
    library.rsdetectnet_map.restype = pointer
    library.rsdetectnet_unmap.argtypes = [pointer]
    library.rsdetectnet_unmap.restype = None
    library.rsdetectnet_dlpack.argtypes = [pointer, number, text, size]
    library.rsdetectnet_dlpack.restype = pointer
    library.rsdetectnet_copy_to_cuda.argtypes = [pointer, pointer, number, pointer, time, time, text, size]
    library.rsdetectnet_copy_to_cuda.restype = ctypes.c_int
    return library


@functools.lru_cache(maxsize=None)
def _gstreamer():
    library = ctypes.CDLL("libgstreamer-1.0.so.0")
    library.gst_buffer_map.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
    library.gst_buffer_map.restype = ctypes.c_int
    library.gst_buffer_unmap.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.gst_buffer_unmap.restype = None
    return library


@functools.lru_cache(maxsize=None)
def _capsule():
    """The one function that is called with Python's lock held, as it makes an object."""
    function = ctypes.PyDLL(_plugin()._name).rsdetectnet_dlpack_capsule
    function.argtypes = [ctypes.c_void_p]
    function.restype = ctypes.py_object
    return function
