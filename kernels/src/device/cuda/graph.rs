//! A CUDA graph: launches that NVIDIA's driver queues in one call.

use std::sync::Arc;

use cudarc::driver::sys::{CUgraph, CUgraphExec, CUgraphInstantiate_flags};
use cudarc::driver::{CudaContext, CudaStream, result};

use super::driver::{Driver, Result, Sequence};
use super::nvidia::checked;

/// An instance of a graph, queued in one stream.
#[derive(Debug)]
pub struct Graph {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    instance: CUgraphExec,
}

// SAFETY: the driver's calls may come from any thread, one at a time: `Sequence::queue` is called on the thread of the queue alone,
// `drop` when no one else has the value.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

impl Graph {
    /// Makes an instance of a captured graph, which is given up, and brings it to the device.
    ///
    /// # Safety
    /// The graph was captured in this context, which is the calling thread's.
    pub unsafe fn new(context: Arc<CudaContext>, stream: Arc<CudaStream>, graph: CUgraph) -> Result<Self> {
        // SAFETY: the caller vouches for the graph.
        let made = unsafe { result::graph::instantiate(graph, CUgraphInstantiate_flags(0)) };
        let made = checked("cuGraphInstantiate", made).map(|instance| Self { context, stream, instance });
        // SAFETY: nothing uses the graph from here on; its instance stands by itself.
        checked("cuGraphDestroy", unsafe { result::graph::destroy(graph) })?;
        let made = made?;
        // SAFETY: the instance and the stream are alive.
        checked("cuGraphUpload", unsafe { result::graph::upload(made.instance, made.stream.cu_stream()) })?;
        Ok(made)
    }
}

impl Sequence for Graph {
    unsafe fn queue(&self, _: &dyn Driver) -> Result<()> {
        checked("cuCtxSetCurrent", self.context.bind_to_thread())?;
        // SAFETY: the instance and the stream are alive; the caller vouches for the memory of the launches.
        checked("cuGraphLaunch", unsafe { result::graph::launch(self.instance, self.stream.cu_stream()) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: nobody has the instance any more; one that still runs is freed by the driver at its end. A context that is lost has nothing to
        // give back.
        let _ = self.context.bind_to_thread().map(|()| unsafe { result::graph::exec_destroy(self.instance) });
    }
}
