/* The entry points that TensorRT's Python bindings ask of NVIDIA's libraries when they are imported.
 *
 * Each answers that there is nothing, so enums, Dims, Weights, Logger and Python subclasses of TensorRT's interfaces
 * work for real, while no builder, runtime, engine or network can exist. For tests only. One source for every library;
 * the symbols were found with `nm -D --undefined-only` on the bindings.
 */
#include <stdint.h>

#define NOTHING(name) void *name(void) { return 0; }

NOTHING(createInferBuilder_INTERNAL)
NOTHING(createInferRefitter_INTERNAL)
NOTHING(createInferRuntime_INTERNAL)
NOTHING(getBuilderPluginRegistry)
NOTHING(getPluginRegistry)
NOTHING(createNvOnnxParser_INTERNAL)
NOTHING(createNvOnnxParserRefitter_INTERNAL)

int32_t getNvOnnxParserVersion(void) { return 0; }
int32_t initLibNvInferPlugins(void *logger, const char *library) { (void)logger; (void)library; return 0; }
