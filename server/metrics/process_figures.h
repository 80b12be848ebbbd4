// The process' own figures, read when they are asked for.
#ifndef OUNCE_SERVER_METRICS_PROCESS_FIGURES_H_
#define OUNCE_SERVER_METRICS_PROCESS_FIGURES_H_

#include "server/metrics/figures.h"

namespace ounce::server {

// Sets the standard process_* metrics and Ounce's own of the process' memory.
// What /proc does not tell is left out.
void SetProcessFigures(Figures& figures);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_METRICS_PROCESS_FIGURES_H_
