#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include <spdlog/logger.h>

namespace ferro {

/// Where messages for people go: standard error, plus a file when given. Passed down by constructor;
/// plain lines `2026-01-31T12:00:00.123Z info  trainer: ...` in a file, coloured on a terminal.
std::shared_ptr<spdlog::logger> make_logger(std::string_view name, std::string_view level = "info",
                                            const std::filesystem::path& file = {});

}  // namespace ferro
