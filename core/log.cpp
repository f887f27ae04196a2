#include "core/log.h"

#include <string>
#include <utility>
#include <vector>

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>

#include "core/error.h"

namespace ferro {

std::shared_ptr<spdlog::logger> make_logger(std::string_view name, std::string_view level,
                                            const std::filesystem::path& file) {
  const std::string level_name(level);
  const spdlog::level::level_enum threshold = spdlog::level::from_str(level_name);
  if (threshold == spdlog::level::off && level_name != "off")
    fail(ErrorCode::kUsage, "log level `{}` is not one of trace, debug, info, warn, error, critical, off",
         level_name);

  std::vector<spdlog::sink_ptr> sinks{std::make_shared<spdlog::sinks::stderr_color_sink_mt>()};
  if (!file.empty()) {
    try {
      sinks.push_back(std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string()));
    } catch (const spdlog::spdlog_ex& error) {
      fail(ErrorCode::kIo, "{}: cannot open the log file: {}", file.string(), error.what());
    }
  }
  auto logger = std::make_shared<spdlog::logger>(std::string(name), sinks.begin(), sinks.end());
  logger->set_level(threshold);
  logger->set_formatter(std::make_unique<spdlog::pattern_formatter>("%Y-%m-%dT%H:%M:%S.%eZ %^%-5l%$ %n: %v",
                                                                    spdlog::pattern_time_type::utc));
  logger->flush_on(spdlog::level::info);
  return logger;
}

}  // namespace ferro
