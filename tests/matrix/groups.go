package main

import (
	"slices"
	"strings"
)

// The packages whose tests are run: the renderer's, all of them, with an authz that
// answers what it is told to; and the whole gate's, as far as they are named below.
const (
	edge = "./envoy"
	gate = "./tests/e2e"
)

// A group is a kind of thing that Envoy could get wrong.
type group struct {
	name string
	// tests are the names of top-level tests, of either package.
	tests []string
}

// rest is the group of what is run and belongs to no other.
const rest = "rendering, tables, routes, logs and figures"

// groups are those of the table, in its order. Each test belongs to one.
func groups() []group {
	return []group{
		{"header smuggling", []string{
			"TestNoForgedIdentityReachesAnyUpstreamOnAnyRoute",
			"TestHeadersThatOnlyTheGateMaySpeak",
			"TestRequestIDIsTheClientsOrANewOneAndBounded",
			"TestForgedIdentityNeverArrives",
			"TestForgedIdentityDoesNotChangeWhoEnsuresACompany",
			"TestForwardedHeadersNameTheClient",
			"TestAClientThatSaysNothingIsNamedAlone",
			"TestRequestIDs",
			"TestTheUpstreamLearnsWhoAsks",
		}},
		{"duplicate and joined headers, tokens in other places", []string{
			"TestRepeatedAuthorizationReachesAuthzAsOneValue",
			"TestAuthorizationIsForwardedWhereTheOperatorAsksForIt",
			"TestOnlyOneBearerTokenIsACredential",
			"TestAuthorizationStaysAtTheGate",
			"TestAuthRoutesPassTheTokenUntouched",
		}},
		{"path confusion", []string{
			"TestEverySpellingOfAPathMeetsTheSameGuard",
			"TestEveryPathLeadsWhereTheTableSaysForEveryMethod",
			"TestATableFindsTheRouteThatEnvoyTakes",
			"TestPathConfusionReachesNothing",
			"TestPathAndQueryArriveAsSent",
			"TestTheExplicitTableHasNothingElse",
		}},
		{"request smuggling, mixed connections", []string{
			"TestRequestsThatAreNoneAreRefusedInJSON",
			"TestAmbiguousRequestsAreRefused",
			"TestAChunkedBodyHidesNoRequest",
			"TestIdentitiesAreNotMixed",
			"TestEveryRequestOfAConnectionIsJudged",
		}},
		{"HTTP/1.0 and HTTP/2", []string{
			"TestHTTP2IsHeldToTheSameRules",
			"TestHTTP10IsJudgedTheSame",
			"TestHTTP2IsJudgedTheSame",
		}},
		{"method tricks", []string{
			"TestOptionsThatAreNoPreflightAreRequestsLikeAnyOther",
			"TestUnknownMethodsReachNothing",
			"TestRoutesOfTheLoginServiceTakeOneMethod",
			"TestAnOptionsRequestThatIsNoPreflightIsJudgedLikeGet",
		}},
		{"CORS tricks", []string{
			"TestOnlyAllowedOriginsAreTold",
			"TestPreflightsAreAnsweredWithoutATokenOnEveryPath",
			"TestVaryKeepsWhatTheUpstreamSaysAndNamesOriginOnce",
			"TestWhatAnUpstreamSaysAboutTheGateIsReplaced",
			"TestOnlyAllowedOriginsMayRead",
			"TestAPreflightSaysWhatIsAllowed",
			"TestEveryAnswerToAnAllowedOriginCanBeRead",
			"TestTheDefaultOriginsAreLocal",
		}},
		{"failing closed", []string{
			"TestWhatAuthzAnswersDecidesAndNothingElseLetsThrough",
			"TestWithAuthorisationGoneNothingPasses",
			"TestAuthzKilledAndBack",
			"TestNothingButAuthzOpensTheGate",
			"TestAuthzDiesFreezesAndComesBack",
			"TestAuthzThatNeverSawItsDatabase",
			"TestPostgresStopsAndComesBack",
			"TestPostgresThatFallsSilent",
		}},
		{"errors, limits and time-outs", []string{
			"TestUpstreamFaultsBecomeTheAnswersOfTheContract",
			"TestLoginDownIsNoConnectionOnItsRoutes",
			"TestAnUpstreamsOwnErrorsPassUnchanged",
			"TestMoreRequestsThanConnectionsAreRefusedAsNoConnection",
			"TestTimeoutsCutSilenceAndNothingThatMoves",
			"TestAStalledClientIsToldSo",
			"TestRetriesAreOfWhatTheServiceHasNotSeen",
			"TestProcessTimeIsOnEveryAnswer",
			"TestGuessesAreLimitedPerClientOnLoginAlone",
			"TestUpstreamErrors",
			"TestEveryAnswerCarriesItsIdAndItsTime",
			"TestLoginIsRateLimitedAtTheEdge",
		}},
		{"streams, uploads and WebSockets", []string{
			"TestAnUploadLargerThanEveryBufferPasses",
			"TestBytesOfABodyArriveAsTheyAreSent",
			"TestEventsArriveAsTheyAreSent",
			"TestASilentWebSocketEndsAfterTheStreamIdleTimeout",
			"TestAWebSocketIsGuardedLikeEveryRequest",
			"TestARequestThatOnlyLooksLikeAnUpgradeKeepsTheShortClock",
			"TestWhatWasLetInEndsInTime",
			"TestWebSockets",
			"TestUploadsStream",
			"TestAStreamEndsWithItsTokenAndIsJudgedAgain",
		}},
		{"gRPC and gRPC-Web", []string{
			"TestAGRPCServiceIsCalledWithIdentityAndAnswersInFull",
			"TestAGRPCStreamMovesBothWays",
			"TestAGRPCClientIsRefusedInItsOwnWords",
			"TestABrowserCallsAGRPCServiceByGRPCWeb",
			"TestWithoutTheOptionGRPCWebIsNotTranslated",
		}},
		{"TLS for clients, mutual TLS to authz", []string{
			"TestClientsAreServedOverTLS",
			"TestANewCertificateIsShownWithoutALostRequest",
			"TestAuthzIsAskedOverMutualTLS",
			"TestANewClientCAAndCertificateReachAuthz",
			"TestTLSThatCannotBeIsRefused",
			"TestEnvoyAndAuthzTrustEachOtherAloneAndTheirCertificatesChange",
		}},
		{rest, nil},
	}
}

// groupOf is where the results of a test belong, given its name with those of the
// subtests behind it.
func groupOf(test string) string {
	top, _, _ := strings.Cut(test, "/")
	for _, g := range groups() {
		if slices.Contains(g.tests, top) {
			return g.name
		}
	}
	return rest
}

// named are the tests of all groups.
func named() []string {
	var all []string
	for _, g := range groups() {
		all = append(all, g.tests...)
	}
	return all
}
