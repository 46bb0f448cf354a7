/* Stands in for NVIDIA's libnvidia-ml.so.1: two GPUs, and an instance (MIG) of the second.
 *
 * STUB_NVML in the environment tells how it behaves: "name=number" joined by ';'. A function's name with an nvmlReturn
 * makes that function fail; throttle holds the bits of the reasons, used the bytes in use.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int status;
typedef struct { int index, instance; } device;
typedef struct { unsigned long long total, vacant, used; } memory;
typedef struct { unsigned gpu, memory; } rates;

enum { DONE = 0, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6 };
static device gpus[] = {{0, 0}, {1, 0}}, instance = {1, 1};

static long setting(const char *key, long otherwise) {
    char all[2048], sought[128];
    snprintf(all, sizeof all, ";%s", getenv("STUB_NVML") ? getenv("STUB_NVML") : "");
    snprintf(sought, sizeof sought, ";%s=", key);
    const char *at = strstr(all, sought);
    return at ? strtol(at + strlen(sought), NULL, 0) : otherwise;
}
#define ENTER() do { long code_ = setting(__func__, 0); if (code_) return (status)code_; } while (0)
#define WHOLE(of) do { ENTER(); if (((device *)of)->instance) return INVALID; } while (0)

const char *nvmlErrorString(status code) { return code == 15 ? "GPU is lost" : code == 18 ? "Driver/library version mismatch" : "stub error"; }
status nvmlInitWithFlags(unsigned flags) { ENTER(); return DONE; }
status nvmlShutdown(void) { ENTER(); return DONE; }
status nvmlDeviceGetCount_v2(unsigned *count) { ENTER(); *count = 2; return DONE; }
status nvmlDeviceGetHandleByIndex_v2(unsigned index, device **found) { ENTER(); if (index > 1) return INVALID; *found = &gpus[index]; return DONE; }
status nvmlDeviceGetHandleByUUID(const char *uuid, device **found) { ENTER(); if (strcmp(uuid, "MIG-1b")) return NOT_FOUND; *found = &instance; return DONE; }
status nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device *of, device **found) { ENTER(); *found = &gpus[of->index]; return DONE; }
status nvmlDeviceGetUUID(device *of, char *text, unsigned size) { ENTER(); snprintf(text, size, "GPU-%da", of->index); return DONE; }
status nvmlDeviceGetName(device *of, char *text, unsigned size) { ENTER(); snprintf(text, size, of->instance ? "Stub GPU MIG 1g.10gb" : "Stub GPU"); return DONE; }
status nvmlDeviceGetMemoryInfo(device *of, memory *told) { ENTER(); told->total = of->instance ? 1000 : 4000; told->used = setting("used", 300); told->vacant = told->total - told->used; return DONE; }
status nvmlDeviceGetUtilizationRates(device *of, rates *told) { WHOLE(of); told->gpu = 75; told->memory = 20; return DONE; }
status nvmlDeviceGetTemperature(device *of, unsigned sensor, unsigned *celsius) { WHOLE(of); if (sensor) return INVALID; *celsius = 61; return DONE; }
status nvmlDeviceGetPowerUsage(device *of, unsigned *milliwatts) { WHOLE(of); *milliwatts = 215500; return DONE; }
status nvmlDeviceGetCurrentClocksThrottleReasons(device *of, unsigned long long *reasons) { WHOLE(of); *reasons = setting("throttle", 0); return DONE; }
status nvmlDeviceGetTotalEccErrors(device *of, unsigned kind, unsigned counter, unsigned long long *count) { WHOLE(of); if (counter) return INVALID; *count = kind ? 1 : 7; return DONE; }
