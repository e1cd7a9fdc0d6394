#pragma once
#include "types.h"

namespace gdq {
extern const Kernels kPortable;
}
