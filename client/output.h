// What the command line writes: to stdout, to files, and for a terminal. What
// can't be written is told, not lost.
//
// Errors: kDataLoss with the system's words.
#ifndef OUNCE_CLIENT_OUTPUT_H_
#define OUNCE_CLIENT_OUTPUT_H_

#include <string>

#include "absl/status/status.h"

namespace ounce::client {

// To stdout, at once.
absl::Status Print(const std::string& text);

// What went to std::cout by then; errno must be 0 before it is written to.
absl::Status FlushOutput();

// What else went to std::cout, and what the system says when it is closed. The
// last thing to write.
absl::Status CloseOutput();

// Makes or replaces the file.
absl::Status WriteFile(const std::string& path, const std::string& bytes);

// Whether `file` (STDOUT_FILENO, ...) is a terminal that moves its cursor.
bool IsTerminal(int file);

// Columns of the terminal that `file` is, at this moment; 80 if unknown.
int TerminalWidth(int file);

// The first `width` characters of a line.
std::string Cut(const std::string& line, int width);

// The line that was on stderr's terminal is replaced by `line`, cut to its
// width. An empty one leaves nothing.
void ShowOnTerminal(const std::string& line);

// Whether stdout and stderr may be seen together, so that what is written to
// one continues a line of the other.
bool OutputsMeet();

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_OUTPUT_H_
