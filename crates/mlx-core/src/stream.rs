//! The queue that this thread's operations go to.
//!
//! Since MLX 0.31.2 a stream belongs to the thread that made it: evaluating it elsewhere fails with
//! "There is no Stream(cpu, 0) in current thread". So each thread has one stream of its own on its
//! device, made at its first operation and kept until the thread ends; [`crate::Array`] is neither
//! `Send` nor `Sync`, and no operation takes a stream. A thread uses the device that it opened last
//! ([`crate::device::open`]), or else the one the process opened first.
//!
//! MLX keeps the worker of a CPU stream until the process ends, so a program should use MLX from a
//! few long-lived threads and not from a new one for each request.

use std::cell::Cell;

use mlx_sys::{mlx_device, mlx_stream};

use crate::ffi::{api, check};
use crate::{DeviceKind, Result, device};

thread_local! {
    static CURRENT: Cell<Option<Stream>> = const { Cell::new(None) };
    static OF_KINDS: Cell<[Option<Stream>; 3]> = const { Cell::new([None; 3]) };
}

/// This thread's stream on its device.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    raw: mlx_stream,
    kind: DeviceKind,
}

impl Stream {
    /// The stream for `op` to run on, made now if this thread has none yet.
    pub(crate) fn current(op: &'static str) -> Result<Stream> {
        if let Some(stream) = CURRENT.get() {
            return Ok(stream);
        }
        let kind = device::require_open(op)?;
        Stream::switch_to(kind)
    }

    /// This thread's stream on the processor, whatever its device.
    pub(crate) fn cpu(op: &'static str) -> Result<Stream> {
        device::require_open(op)?;
        Stream::of(DeviceKind::Cpu)
    }

    /// Makes `kind` this thread's device.
    pub(crate) fn switch_to(kind: DeviceKind) -> Result<Stream> {
        let stream = Stream::of(kind)?;
        CURRENT.set(Some(stream));
        Ok(stream)
    }

    /// This thread's stream on a device, which MLX makes the first time it is asked for.
    fn of(kind: DeviceKind) -> Result<Stream> {
        let mut known = OF_KINDS.get();
        let slot = match kind {
            DeviceKind::Cpu => &mut known[0],
            DeviceKind::Cuda => &mut known[1],
            DeviceKind::Metal => &mut known[2],
        };
        if let Some(stream) = *slot {
            return Ok(stream);
        }
        let device = Device::new(kind)?;
        let mut raw = mlx_stream {
            ctx: std::ptr::null_mut(),
        };
        // SAFETY: `raw` is an empty handle for MLX to fill, `device` is alive.
        let status = unsafe { api().mlx_get_default_stream(&mut raw, device.raw()) };
        check("stream", status)?;
        // The handle is a few bytes, there is one for each thread and device, and MLX itself never
        // forgets a stream: leaving it alive makes every copy of it valid for ever.
        let stream = Stream { raw, kind };
        *slot = Some(stream);
        OF_KINDS.set(known);
        Ok(stream)
    }

    pub(crate) fn raw(self) -> mlx_stream {
        self.raw
    }

    /// The kind of device it belongs to.
    pub(crate) fn kind(self) -> DeviceKind {
        self.kind
    }

    /// Waits until everything submitted to this stream is done.
    pub(crate) fn synchronize(self) -> Result<()> {
        // SAFETY: the stream's handle is never freed.
        check("synchronize", unsafe { api().mlx_synchronize(self.raw) })
    }
}

/// An owned `mlx_device`.
pub(crate) struct Device(mlx_device);

impl Device {
    /// The first device of a kind.
    pub(crate) fn new(kind: DeviceKind) -> Result<Device> {
        let class = match kind {
            DeviceKind::Cpu => mlx_sys::MLX_CPU,
            DeviceKind::Cuda | DeviceKind::Metal => mlx_sys::MLX_GPU,
        };
        // SAFETY: takes plain numbers.
        let device = Device(unsafe { api().mlx_device_new_type(class, 0) });
        if device.0.ctx.is_null() {
            Err(crate::ffi::failure("device"))
        } else {
            Ok(device)
        }
    }

    pub(crate) fn raw(&self) -> mlx_device {
        self.0
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: this handle is owned here and freed once.
        unsafe { api().mlx_device_free(self.0) };
    }
}
