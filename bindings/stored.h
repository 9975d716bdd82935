// Names of the storage types, as Python says them.
#pragma once

#include <string>

#include "core/storage.h"

namespace loopos::bind {

/// By its name; ValueError listing the names.
Storage storage_of(const std::string& name);
const char* storage_name(Storage kind);

}  // namespace loopos::bind
