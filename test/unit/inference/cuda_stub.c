/* A stand-in for libcuda with one GPU whose memory is the heap: for the tests of cuda_buffers on machines without one.
   A stream does what is put into it at once, unless it is being captured: then the copies are kept for cuGraphLaunch. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct { void *to; const void *from; size_t bytes; } Copy;

static Copy kept[64];
static int count, capturing, open_things;

int stub_open_things(void) { return open_things; }

int cuInit(unsigned flags) { return getenv("CUDA_STUB_NO_DEVICE") ? 100 : 0; }
int cuGetErrorName(int code, const char **text) { *text = "CUDA_ERROR_STUB"; return 0; }
int cuGetErrorString(int code, const char **text) {
  *text = code == 100 ? "no CUDA-capable device is detected" : "stub failed";
  return 0;
}
int cuDeviceGetCount(int *number) { *number = 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "Stub GPU", size); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 8 : attribute == 76 ? 7 : 0;
  return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)(uintptr_t)0x7f0000000001; open_things++; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { open_things--; return 0; }
int cuCtxSetCurrent(void *context) { return context == (void *)(uintptr_t)0x7f0000000001 ? 0 : 201; }
int cuStreamCreate(void **stream, unsigned flags) { *stream = malloc(1); open_things++; return flags == 1 ? 0 : 1; }
int cuStreamDestroy_v2(void *stream) { free(stream); open_things--; return 0; }
int cuStreamSynchronize(void *stream) { return 0; }
int cuMemAlloc_v2(uint64_t *pointer, size_t bytes) {
  if (bytes > ((size_t)1 << 40)) return 2;
  *pointer = (uint64_t)(uintptr_t)malloc(bytes);
  open_things++;
  return 0;
}
int cuMemFree_v2(uint64_t pointer) { free((void *)(uintptr_t)pointer); open_things--; return 0; }
int cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) {
  *pointer = malloc(bytes > ((size_t)1 << 40) ? 1 : bytes);
  open_things++;
  return 0;
}
int cuMemFreeHost(void *pointer) { free(pointer); open_things--; return 0; }
static int put(void *to, const void *from, size_t bytes) {
  if (!capturing) memcpy(to, from, bytes);
  else kept[count++] = (Copy){to, from, bytes};
  return 0;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
  return put((void *)(uintptr_t)to, from, bytes);
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
  return put(to, (void *)(uintptr_t)from, bytes);
}
int cuStreamBeginCapture_v2(void *stream, int mode) { capturing = 1; count = 0; return 0; }
int cuStreamEndCapture(void *stream, void **graph) { capturing = 0; *graph = kept; open_things++; return 0; }
int cuGraphInstantiateWithFlags(void **executable, void *graph, uint64_t flags) { *executable = graph; open_things++; return 0; }
int cuGraphLaunch(void *executable, void *stream) {
  for (int i = 0; i < count; i++) memcpy(kept[i].to, kept[i].from, kept[i].bytes);
  return 0;
}
int cuGraphDestroy(void *graph) { open_things--; return 0; }
int cuGraphExecDestroy(void *executable) { open_things--; return 0; }
