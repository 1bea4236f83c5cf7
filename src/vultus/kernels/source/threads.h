// Work sharing between threads, and memory that is reused from call to call.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Runs body(context, task, worker) for every task in [0, tasks), on at most `threads` threads including the caller.
// worker < threads names the thread, for scratch memory. Which thread runs which task is not fixed: bodies must give
// the same result whoever runs them. May be called from several threads at once and after fork().
typedef void (*TaskBody)(void* context, int64_t task, int worker);
void parallel_for(int threads, int64_t tasks, TaskBody body, void* context);

// A growing block of memory, 64-byte aligned, not cleared.
struct Buffer {
  void* data;
  size_t size;
};

enum { WORKSPACE_BUFFERS = 12 };

// Buffers that one image needs. Returned workspaces are handed out again, because fresh pages cost more than drawing.
struct Workspace {
  Buffer buffers[WORKSPACE_BUFFERS];
  Workspace* next;
};

Workspace* workspace_take();
void workspace_give(Workspace* workspace);

// At least `count` elements in buffer `slot`, or null when memory is exhausted; the contents are not kept.
void* workspace_reserve(Workspace* workspace, int slot, size_t bytes);

// Memory for images and gradients, 64-byte aligned, not cleared; what is given back is handed out again.
void* memory_take(size_t bytes);
void memory_give(void* data);

template <class T>
static inline T* reserve(Workspace* workspace, int slot, size_t count) {
  return static_cast<T*>(workspace_reserve(workspace, slot, count * sizeof(T)));
}
