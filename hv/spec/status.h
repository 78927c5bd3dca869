// Hypercall status codes (H-60..H-64).
#pragma once

#include "base/types.h"

namespace vg::hv {

enum class HvStatus : u16 {
    Success = 0x0, InvalidHypercallCode = 0x2, InvalidHypercallInput = 0x3, InvalidAlignment = 0x4,
    InvalidParameter = 0x5, AccessDenied = 0x6, InvalidPartitionState = 0x7, OperationDenied = 0x8,
    UnknownProperty = 0x9, PropertyValueOutOfRange = 0xa, InsufficientMemory = 0xb, PartitionTooDeep = 0xc,
    InvalidPartitionId = 0xd, InvalidVpIndex = 0xe, NotFound = 0x10, InvalidPortId = 0x11,
    InvalidConnectionId = 0x12, InsufficientBuffers = 0x13, NotAcknowledged = 0x14, InvalidVpState = 0x15,
    Acknowledged = 0x16, InvalidSaveRestoreState = 0x17, InvalidSynicState = 0x18, ObjectInUse = 0x19,
    InvalidProximityDomainInfo = 0x1a, NoData = 0x1b, Inactive = 0x1c, NoResources = 0x1d, FeatureUnavailable = 0x1e,
    PartialPacket = 0x1f, ProcessorFeatureNotSupported = 0x20, InsufficientBuffer = 0x33, InvalidLpIndex = 0x41,
    InvalidRegisterValue = 0x50, InvalidVtlState = 0x51, InvalidDeviceId = 0x57, InvalidDeviceState = 0x58,
    OperationFailed = 0x71, InsufficientRootMemory = 0x73, InsufficientContiguousMemory = 0x75, TimeOut = 0x78,
    CallPending = 0x79, InsufficientContiguousRootMemory = 0x83, UnknownRegisterName = 0x87,
};

}  // namespace vg::hv
