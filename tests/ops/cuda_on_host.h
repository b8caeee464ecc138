// Runs the bodies of the CUDA kernels on the CPU, so that a machine without a GPU can test their arithmetic, indexing
// and reductions. A block's threads are coroutines that take turns; __syncthreads hands over to the next one. What this
// cannot see: the device's memory model, misaligned vector accesses, launch errors. Include it before the kernels.
#pragma once

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

#include "cuda/device.cuh"

namespace {

struct Thread {
  ucontext_t context;
  bool done;
  std::vector<char> stack = std::vector<char>(32768);
};
std::vector<Thread> threads(bigan::cuda::kThreads);
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
  blockDim.x = bigan::cuda::kThreads;
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

}  // namespace

static void __syncthreads() {
  const unsigned me = threadIdx.x;
  swapcontext(&threads[me].context, &scheduler);
  threadIdx.x = me;
}
