#pragma once

#include <filesystem>

#include "launch/commands.h"

namespace ferro {

/// libferro_runtime.so beside the running program (../lib), loaded on the first call and kept. Error{kUsage}
/// when this build has none, saying how to build it; Error{kInternal} when it does not load or is of another
/// version.
const RuntimeTable& runtime();

/// The same for libferro_pictures.so.
const PictureTable& pictures();

/// The same for libferro_services.so, but its absence is an Error{kConfig}: the configuration asks for it.
const ServiceTable& services();

/// pictures().make_loader as a factory.
ImageLoaderFactory image_loader_factory();

/// Opens `library` and returns what its function `entry` returns. `how_to_build` ends the message when the
/// file is absent.
const void* load_plugin(const std::filesystem::path& library, const char* entry, const char* how_to_build);

}  // namespace ferro
