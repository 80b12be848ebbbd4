// The log: what the server says to those who run it.
//
// Every line, on stderr and on stdout, but those of LogRequest, is `TIME LEVEL
// MESSAGE`, TIME with its offset from UTC, or a JSON object with these three.
// Control characters in a message are escaped, so that a name or a path makes
// no line of its own.
//
// Writing never waits: what nobody reads (a full pipe, a stopped terminal) is
// lost, and the next line that goes through says how much that was.
//
// Threads: any thread may call anything, SetUpLog before the others.
#ifndef OUNCE_SERVER_LOG_H_
#define OUNCE_SERVER_LOG_H_

#include <memory>
#include <string>
#include <string_view>

#include "spdlog/common.h"
#include "spdlog/formatter.h"

namespace ounce::server {

enum class LogFormat { kText, kJson };

// spdlog's default logger writes to stderr from now on. May be called again.
void SetUpLog(LogFormat format);

// A line on stdout, for who waits for the server to be ready.
void Announce(const std::string& message);

// A line on stderr of one request: `fields`, a JSON object, after time, level
// and message ("request"), in JSON whatever the form of the other lines.
void LogRequest(const std::string& fields);

// "a\nb" for a message of two lines; \xNN for other control characters and for
// what is no UTF-8.
std::string Escaped(std::string_view message);

std::unique_ptr<spdlog::formatter> MakeFormatter(LogFormat format);

// Writes to `fd`, which must outlive it.
std::shared_ptr<spdlog::sinks::sink> MakeSink(int fd);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_LOG_H_
