// stdin, stdout and stderr of a program that was started without them.
#ifndef OUNCE_BASE_STANDARD_FILES_H_
#define OUNCE_BASE_STANDARD_FILES_H_

namespace ounce {

// Takes the numbers 0, 1 and 2 where nothing is open (`program >&-`), so that
// no file or connection that is opened later gets one of them, and with it what
// is printed or logged. Reading and writing them still fails, with EBADF.
//
// Threads: to be called before any other thread.
void TakeStandardFiles();

}  // namespace ounce

#endif  // OUNCE_BASE_STANDARD_FILES_H_
