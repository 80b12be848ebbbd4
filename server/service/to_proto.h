// Names that both services give to what the catalog says.
#ifndef OUNCE_SERVER_SERVICE_TO_PROTO_H_
#define OUNCE_SERVER_SERVICE_TO_PROTO_H_

#include "ounce/v1/inference.pb.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

v1::ModelState ToProto(ModelState state);
v1::Task ToProto(Task task);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_TO_PROTO_H_
