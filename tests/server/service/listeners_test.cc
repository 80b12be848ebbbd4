#include "server/service/listeners.h"

#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/engine/recording_catalog_observer.h"
#include "tests/server/service/service_fixture.h"

namespace ounce::server {
namespace {

using ::testing::Contains;
using Response = grpc::health::v1::HealthCheckResponse;

class ListenersTest : public testing::ServiceTest {
 protected:
  // Of the public one; SERVICE_UNKNOWN for a name that it does not know.
  Response::ServingStatus Health(const std::string& service) {
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    Response response;
    grpc::ClientContext context;
    const grpc::Status status =
        grpc::health::v1::Health::NewStub(channel_)->Check(&context, request,
                                                           &response);
    return status.error_code() == grpc::StatusCode::NOT_FOUND
               ? Response::SERVICE_UNKNOWN
               : response.status();
  }
};

TEST_F(ListenersTest, ModelsThatWereThereFirstHaveTheirHealthToo) {
  RecordingCatalogObserver next;
  ModelHealth health(next);
  const std::string early = "early", gone = "gone";
  ModelInfo model;
  model.state = ModelState::kLoading;
  for (const std::string& name : {early, gone}) {
    model.name = name;
    health.OnModelChanged(model);
  }
  health.OnModelRemoved(gone);
  health.SetListeners(listeners_.get());
  EXPECT_EQ(Health("models/early"), Response::NOT_SERVING);
  EXPECT_EQ(Health("models/gone"), Response::SERVICE_UNKNOWN);
  model.name = early;
  model.state = ModelState::kReady;
  health.OnModelChanged(model);
  EXPECT_EQ(Health("models/early"), Response::SERVING);
}

TEST_F(ListenersTest, OnlyModelsOfTheStartKeepTheirNameWhenTheyAreGone) {
  RecordingCatalogObserver next;
  ModelHealth health(next, {"first"});
  health.SetListeners(listeners_.get());
  ModelInfo model;
  model.state = ModelState::kReady;
  for (const char* name : {"first", "later"}) {
    model.name = name;
    health.OnModelChanged(model);
    EXPECT_EQ(Health(absl::StrCat("models/", name)), Response::SERVING);
    health.OnModelRemoved(name);
  }
  EXPECT_EQ(Health("models/first"), Response::NOT_SERVING);
  EXPECT_EQ(Health("models/later"), Response::SERVICE_UNKNOWN);
}

TEST_F(ListenersTest, IsReadyOnlyWhileAllModelsOfTheStartServe) {
  RecordingCatalogObserver next;
  ModelHealth health(next, {"first", "second"}, /*all_needed=*/true);
  ModelInfo model;
  model.state = ModelState::kReady;
  const auto set = [&](const std::string& name, ModelState state) {
    model.name = name;
    model.state = state;
    health.OnModelChanged(model);
  };
  const auto both = [&](Response::ServingStatus status) {
    EXPECT_EQ(Health(""), status);
    EXPECT_EQ(Health("ounce.v1.Inference"), status);
  };
  listeners_->StartServing();
  health.SetListeners(listeners_.get());
  both(Response::NOT_SERVING);
  set("first", ModelState::kReady);
  both(Response::NOT_SERVING);
  set("second", ModelState::kReady);
  both(Response::SERVING);
  set("second", ModelState::kQuantizing);
  both(Response::SERVING);
  // One that is not of the start takes no part in it.
  set("third", ModelState::kLoading);
  both(Response::SERVING);
  health.OnModelRemoved("first");
  both(Response::NOT_SERVING);
  set("first", ModelState::kLoading);
  both(Response::NOT_SERVING);
  set("first", ModelState::kReady);
  both(Response::SERVING);
}

TEST_F(ListenersTest, NothingServesAgainAfterAStop) {
  listeners_->StopServing();
  listeners_->StartServing();
  listeners_->SetModelServing("tiny", true);
  for (const char* name : {"", "ounce.v1.Inference", "models/tiny"}) {
    EXPECT_EQ(Health(name), Response::NOT_SERVING) << name;
  }
  EXPECT_EQ(Health("liveness"), Response::SERVING);
}

TEST_F(ListenersTest, ModelHealthOutlivesItsListeners) {
  RecordingCatalogObserver next;
  ModelHealth health(next);
  health.SetListeners(listeners_.get());
  health.SetListeners(nullptr);
  listeners_.reset();
  health.OnModelRemoved("tiny");  // as a job does that ends last
  EXPECT_THAT(next.events(), Contains("tiny removed"));
}

}  // namespace
}  // namespace ounce::server
