// The samples that a request may ask for in place of its own (`probe`).
#ifndef OUNCE_SERVER_SERVICE_PROBE_H_
#define OUNCE_SERVER_SERVICE_PROBE_H_

#include <string_view>

namespace ounce::server {

// A page of English prose and Python.
std::string_view ProbeText();

// The file embedded/detr-tiny/examples/shapes-300x300.png: coloured shapes.
std::string_view ProbePicture();

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_PROBE_H_
