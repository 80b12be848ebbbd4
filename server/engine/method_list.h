// Everything that the text of a plan may name.
#ifndef OUNCE_SERVER_ENGINE_METHOD_LIST_H_
#define OUNCE_SERVER_ENGINE_METHOD_LIST_H_

#include "server/scheduler/model_catalog.h"

namespace ounce::server {

MethodList ListMethods();

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_METHOD_LIST_H_
