package wire

import "strconv"

// Status is what became of a request: one byte in answers to pushes, a number in messages (StatusCode.java).
type Status int32

// The statuses that this service sends.
const (
	Success                    Status = 0
	PartialSuccess             Status = 1
	RequestFailed              Status = 2
	ShuffleUnregistered        Status = 4
	ReserveSlotsFailed         Status = 5
	SlotNotAvailable           Status = 6
	MapEnded                   Status = 15
	NonCriticalCausePrimary    Status = 17
	PartitionNotFound          Status = 20
	HardSplit                  Status = 21
	SoftSplit                  Status = 22
	WorkerShutdown             Status = 25
	NoAvailableWorkingDir      Status = 26
	WorkerExcluded             Status = 27
	CreateConnectionReplica    Status = 39
	ConnectionExceptionReplica Status = 41
	TimeoutReplica             Status = 43
	NonCriticalCauseReplica    Status = 50
	OpenStreamFailed           Status = 51
)

var statusNames = map[Status]string{
	Success: "SUCCESS", PartialSuccess: "PARTIAL_SUCCESS", RequestFailed: "REQUEST_FAILED", ShuffleUnregistered: "SHUFFLE_UNREGISTERED",
	ReserveSlotsFailed: "RESERVE_SLOTS_FAILED", SlotNotAvailable: "SLOT_NOT_AVAILABLE", MapEnded: "MAP_ENDED",
	NonCriticalCausePrimary: "PUSH_DATA_FAIL_NON_CRITICAL_CAUSE_PRIMARY",
	PartitionNotFound:       "PUSH_DATA_FAIL_PARTITION_NOT_FOUND", HardSplit: "HARD_SPLIT",
	SoftSplit: "SOFT_SPLIT", WorkerShutdown: "WORKER_SHUTDOWN", NoAvailableWorkingDir: "NO_AVAILABLE_WORKING_DIR", WorkerExcluded: "WORKER_EXCLUDED",
	CreateConnectionReplica:    "PUSH_DATA_CREATE_CONNECTION_FAIL_REPLICA",
	ConnectionExceptionReplica: "PUSH_DATA_CONNECTION_EXCEPTION_REPLICA", TimeoutReplica: "PUSH_DATA_TIMEOUT_REPLICA",
	NonCriticalCauseReplica: "PUSH_DATA_FAIL_NON_CRITICAL_CAUSE_REPLICA", OpenStreamFailed: "OPEN_STREAM_FAILED",
}

// String is the status's name in Celeborn, with which the text of a failed push must begin.
func (s Status) String() string {
	if n, ok := statusNames[s]; ok {
		return n
	}
	return "STATUS_" + strconv.Itoa(int(s))
}
