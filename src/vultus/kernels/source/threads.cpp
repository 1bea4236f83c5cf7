#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace {

const int MAX_THREADS = 256;
const int SPINS = 2000;  // some tens of microseconds: phases of one image follow each other faster than a thread wakes
const size_t KEPT_BYTES = size_t(512) << 20;  // of workspaces, and as much of images

struct Pool {
  pthread_mutex_t busy;   // held by the caller whose work is running
  pthread_mutex_t mutex;  // protects the wake-up of workers
  pthread_cond_t wake;
  int workers;
  uint64_t generation;  // counts jobs; a worker takes part in each at most once
  // The job that is running.
  TaskBody body;
  void* context;
  int64_t tasks, next;
  int seats, taken, inside;
};

Pool pool = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0, 0, 0, 0, 0, 0, 0};
pthread_mutex_t cache_mutex = PTHREAD_MUTEX_INITIALIZER;
Workspace* cache;
size_t cache_bytes;

// Precedes a block of memory_take; as long as the alignment.
struct alignas(64) Header {
  size_t size;  // of the whole block
  Header* next;
};
Header* spare;
size_t spare_bytes;

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

void work(TaskBody body, void* context, int64_t tasks, int worker) {
  for (;;) {
    int64_t task = __atomic_fetch_add(&pool.next, 1, __ATOMIC_RELAXED);
    if (task >= tasks) return;
    body(context, task, worker);
  }
}

void* worker_main(void*) {
  uint64_t seen = 0;
  pthread_mutex_lock(&pool.mutex);
  seen = pool.generation - 1;  // the job that started this thread is still open to it
  for (;;) {
    if (pool.generation == seen) {
      pthread_mutex_unlock(&pool.mutex);
      for (int i = 0; i < SPINS && __atomic_load_n(&pool.generation, __ATOMIC_RELAXED) == seen; i++) relax();
      pthread_mutex_lock(&pool.mutex);
      while (pool.generation == seen) pthread_cond_wait(&pool.wake, &pool.mutex);
    }
    seen = pool.generation;
    if (pool.taken >= pool.seats) continue;  // the job is over or has hands enough
    int worker = ++pool.taken;
    pool.inside++;
    TaskBody body = pool.body;
    void* context = pool.context;
    int64_t tasks = pool.tasks;
    pthread_mutex_unlock(&pool.mutex);
    work(body, context, tasks, worker);
    pthread_mutex_lock(&pool.mutex);
    __atomic_store_n(&pool.inside, pool.inside - 1, __ATOMIC_RELEASE);
  }
  return nullptr;
}

// After fork() only the calling thread exists in the child: the pool starts again without workers.
void after_fork_in_child() {
  pthread_mutex_init(&pool.busy, nullptr);
  pthread_mutex_init(&pool.mutex, nullptr);
  pthread_cond_init(&pool.wake, nullptr);
  pthread_mutex_init(&cache_mutex, nullptr);
  pool.workers = pool.seats = pool.taken = pool.inside = 0;
  cache = nullptr;  // may have been half-linked; its memory stays with the parent's image
  cache_bytes = 0;
  spare = nullptr;
  spare_bytes = 0;
}

__attribute__((constructor)) void install_fork_handler() { pthread_atfork(nullptr, nullptr, after_fork_in_child); }

}  // namespace

void parallel_for(int threads, int64_t tasks, TaskBody body, void* context) {
  if (threads > MAX_THREADS) threads = MAX_THREADS;
  if (threads > tasks) threads = int(tasks);
  // When another thread's call is using the workers, this one runs alone: both make progress.
  if (threads <= 1 || pthread_mutex_trylock(&pool.busy) != 0) {
    for (int64_t task = 0; task < tasks; task++) body(context, task, 0);
    return;
  }
  pthread_mutex_lock(&pool.mutex);
  pool.body = body;
  pool.context = context;
  pool.tasks = tasks;
  __atomic_store_n(&pool.next, int64_t(0), __ATOMIC_RELAXED);
  pool.seats = threads - 1;
  pool.taken = 0;
  __atomic_store_n(&pool.generation, pool.generation + 1, __ATOMIC_RELAXED);
  while (pool.workers < threads - 1) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int failed = pthread_create(&thread, &attributes, worker_main, nullptr);
    pthread_attr_destroy(&attributes);
    if (failed) break;  // fewer hands, same result
    pool.workers++;
  }
  pthread_cond_broadcast(&pool.wake);
  pthread_mutex_unlock(&pool.mutex);
  work(body, context, tasks, 0);
  pthread_mutex_lock(&pool.mutex);
  pool.seats = 0;  // nobody may join any more
  pthread_mutex_unlock(&pool.mutex);
  for (int i = 0; __atomic_load_n(&pool.inside, __ATOMIC_ACQUIRE); i++) {
    if (i < SPINS) relax();
    else sched_yield();
  }
  pthread_mutex_unlock(&pool.busy);
}

namespace {

const size_t HUGE_PAGE = size_t(2) << 20;

// Aligned memory, in large pages where the system has them: scattered access to small pages is slow, and so is asking
// for each of them.
void* allocate(size_t bytes) {
#if defined(_WIN32)
  return _aligned_malloc(bytes, 64);
#else
  void* data = nullptr;
  if (posix_memalign(&data, bytes >= HUGE_PAGE ? HUGE_PAGE : 64, bytes) != 0) return nullptr;
#if defined(MADV_HUGEPAGE)
  if (bytes >= HUGE_PAGE) madvise(data, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
  return data;
#endif
}

void deallocate(void* data) {
#if defined(_WIN32)
  _aligned_free(data);
#else
  free(data);
#endif
}


}  // namespace

void* memory_take(size_t bytes) {
  const size_t needed = bytes + sizeof(Header);
  Header** best = nullptr;
  pthread_mutex_lock(&cache_mutex);
  for (Header** h = &spare; *h; h = &(*h)->next)
    if ((*h)->size >= needed && (*h)->size / 2 <= needed && (!best || (*h)->size < (*best)->size)) best = h;
  Header* block = nullptr;
  if (best) {
    block = *best;
    *best = block->next;
    spare_bytes -= block->size;
  }
  pthread_mutex_unlock(&cache_mutex);
  if (!block) {
    block = static_cast<Header*>(allocate(needed));
    if (!block) return nullptr;
    block->size = needed;
  }
  return block + 1;
}

void memory_give(void* data) {
  if (!data) return;
  Header* block = static_cast<Header*>(data) - 1;
  pthread_mutex_lock(&cache_mutex);
  const bool keep = spare_bytes + block->size <= KEPT_BYTES;
  if (keep) {
    spare_bytes += block->size;
    block->next = spare;
    spare = block;
  }
  pthread_mutex_unlock(&cache_mutex);
  if (!keep) deallocate(block);
}

void* workspace_reserve(Workspace* workspace, int slot, size_t bytes) {
  Buffer& buffer = workspace->buffers[slot];
  if (buffer.size >= bytes && buffer.data) return buffer.data;
  deallocate(buffer.data);
  buffer.data = nullptr;
  buffer.size = 0;
  size_t size = (bytes + bytes / 4 + 4095) & ~size_t(4095);
  if (!size) size = 4096;
  buffer.data = allocate(size);
  if (!buffer.data) return nullptr;
  buffer.size = size;
  return buffer.data;
}

Workspace* workspace_take() {
  pthread_mutex_lock(&cache_mutex);
  Workspace* workspace = cache;
  if (workspace) {
    cache = workspace->next;
    for (const Buffer& buffer : workspace->buffers) cache_bytes -= buffer.size;
  }
  pthread_mutex_unlock(&cache_mutex);
  if (!workspace) workspace = static_cast<Workspace*>(calloc(1, sizeof(Workspace)));
  return workspace;
}

void workspace_give(Workspace* workspace) {
  if (!workspace) return;
  size_t bytes = 0;
  for (const Buffer& buffer : workspace->buffers) bytes += buffer.size;
  pthread_mutex_lock(&cache_mutex);
  bool keep = cache_bytes + bytes <= KEPT_BYTES;
  if (keep) {
    cache_bytes += bytes;
    workspace->next = cache;
    cache = workspace;
  }
  pthread_mutex_unlock(&cache_mutex);
  if (keep) return;
  for (Buffer& buffer : workspace->buffers) deallocate(buffer.data);
  free(workspace);
}
