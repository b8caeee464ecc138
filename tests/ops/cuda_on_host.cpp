// Runs the bodies of the CUDA kernels on the CPU, so that a machine without a GPU can test their arithmetic, indexing
// and reductions. A block's threads are coroutines that take turns; __syncthreads hands over to the next one. What this
// cannot see: the device's memory model, misaligned vector accesses, launch errors.
#include <torch/headeronly/util/BFloat16.h>
#include <ucontext.h>

#include <cstdint>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
struct uint4 {
  unsigned x, y, z, w;
};
struct Index {
  unsigned x;
};
static Index threadIdx, blockIdx, blockDim;
static void __syncthreads();

#include "cuda/bias_leaky_relu.cuh"

namespace {

using bigan::Extent;
using bigan::cuda::kThreads;

struct Thread {
  ucontext_t context;
  bool done;
  std::vector<char> stack = std::vector<char>(32768);
};
std::vector<Thread> threads(kThreads);
ucontext_t scheduler;
std::function<void()> body;

void run_thread() {
  body();
  threads[threadIdx.x].done = true;
  swapcontext(&threads[threadIdx.x].context, &scheduler);
}

// Every thread of a block runs to its next barrier before any runs past it.
template <typename F>
void launch(int64_t grid, F&& kernel) {
  body = kernel;
  blockDim.x = kThreads;
  for (int64_t block = 0; block < grid; ++block) {
    blockIdx.x = static_cast<unsigned>(block);
    for (Thread& thread : threads) {
      getcontext(&thread.context);
      thread.context.uc_stack.ss_sp = thread.stack.data();
      thread.context.uc_stack.ss_size = thread.stack.size();
      thread.context.uc_link = nullptr;
      thread.done = false;
      makecontext(&thread.context, run_thread, 0);
    }
    for (bool running = true; running;) {
      running = false;
      for (unsigned t = 0; t < threads.size(); ++t) {
        if (threads[t].done) continue;
        threadIdx.x = t;
        swapcontext(&scheduler, &threads[t].context);
        running = running || !threads[t].done;
      }
    }
  }
}

template <bool kVector, typename T>
void run(const T* x, const bigan::accumulate_t<T>* bias, const T* g, Extent e, double slope, T* y, uint8_t* bits, T* dx,
         T* dx_summed, bigan::accumulate_t<T>* db) {
  using A = bigan::accumulate_t<T>;
  namespace cuda = bigan::cuda;
  const A factor = static_cast<A>(slope);
  launch(cuda::elementwise_grid(e.numel()), [&] { cuda::forward<kVector>(x, bias, factor, e, y, bits); });
  launch(cuda::elementwise_grid(e.numel()), [&] { cuda::multiply<kVector>(g, bits, factor, e.numel(), dx); });
  std::vector<A> partial(cuda::partial_count(e) * e.channels, A(-1e30));
  const bool align = kVector && (e.inner == 1 ? cuda::rows_align(e) : cuda::planes_align(e));
  A* p = partial.data();
  if (e.inner == 1) {
    launch(cuda::rows_grid(e), [&] {
      align ? cuda::multiply_and_sum_rows<true>(g, bits, factor, e, dx_summed, p)
            : cuda::multiply_and_sum_rows<false>(g, bits, factor, e, dx_summed, p);
    });
  } else {
    launch(cuda::planes_grid(e), [&] {
      align ? cuda::multiply_and_sum_planes<true>(g, bits, factor, e, dx_summed, p)
            : cuda::multiply_and_sum_planes<false>(g, bits, factor, e, dx_summed, p);
    });
  }
  launch(cuda::sum_grid(e), [&] { cuda::sum_partials(p, cuda::partial_count(e), e.channels, db); });
}

}  // namespace

static void __syncthreads() {
  const unsigned me = threadIdx.x;
  swapcontext(&threads[me].context, &scheduler);
  threadIdx.x = me;
}

#define EXPORT(name, T)                                                                                             \
  extern "C" void name(const T* x, const bigan::accumulate_t<T>* bias, const T* g, int64_t outer, int64_t channels, \
                       int64_t inner, double slope, bool vector, T* y, uint8_t* bits, T* dx, T* dx_summed,          \
                       bigan::accumulate_t<T>* db) {                                                                \
    const Extent e{outer, channels, inner};                                                                         \
    vector ? run<true>(x, bias, g, e, slope, y, bits, dx, dx_summed, db)                                            \
           : run<false>(x, bias, g, e, slope, y, bits, dx, dx_summed, db);                                          \
  }
EXPORT(run_float32, float)
EXPORT(run_float64, double)
EXPORT(run_bfloat16, torch::headeronly::BFloat16)
