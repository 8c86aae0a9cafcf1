# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The CIM classes this project uses: the one table from which client, agent and lab decode.

Names, types and parameters are those of the schemas of Windows Server 2019 and Azure Stack HCI 23H2; a test holds the table
against them where they are at hand. What those schemas do not contain stands apart below, each with its source.
Only the members that the project uses are listed; an answer may hold more.
"""

from __future__ import annotations

from ..wsman.schema import Schema

CIMV2 = "root/cimv2"
DEFAULT = "root/default"
STORAGE = "root/microsoft/windows/storage"
TASK_SCHEDULER = "root/microsoft/windows/taskscheduler"
VOLUME_ENCRYPTION = "root/cimv2/security/microsoftvolumeencryption"
CCM = "root/ccm"
CLIENT_SDK = "root/ccm/clientsdk"
OSD = "root/osd"

#: The registry provider answers in root/cimv2 and in root/default with the same methods.
_STD_REG_PROV = "; ".join(
    [
        *(f"static {verb}(uint32 hDefKey, string sSubKeyName)" for verb in ("CreateKey", "DeleteKey")),
        "static EnumKey(uint32 hDefKey, string sSubKeyName) -> string[] sNames",
        "static EnumValues(uint32 hDefKey, string sSubKeyName) -> string[] sNames, sint32[] Types",
        "static DeleteValue(uint32 hDefKey, string sSubKeyName, string sValueName)",
        "static CheckAccess(uint32 hDefKey, string sSubKeyName, uint32 uRequired) -> boolean bGranted",
        *(
            f"static Get{kind}Value(uint32 hDefKey, string sSubKeyName, string sValueName) -> {value}"
            for kind, value in (
                ("DWORD", "uint32 uValue"),
                ("QWORD", "uint64 uValue"),
                ("String", "string sValue"),
                ("ExpandedString", "string sValue"),
                ("MultiString", "string[] sValue"),
                ("Binary", "uint8[] uValue"),
            )
        ),
        *(
            f"static Set{kind}Value(uint32 hDefKey, string sSubKeyName, string sValueName, {value})"
            for kind, value in (
                ("DWORD", "uint32 uValue"),
                ("QWORD", "uint64 uValue"),
                ("String", "string sValue"),
                ("ExpandedString", "string sValue"),
                ("MultiString", "string[] sValue"),
                ("Binary", "uint8[] uValue"),
            )
        ),
    ]
)

WINDOWS_CLASSES: dict[str, dict[str, str]] = {
    CIMV2: {
        "Win32_OperatingSystem": (
            "string SystemDrive; datetime LastBootUpTime; datetime LocalDateTime; string Version; string BuildNumber; "
            "string Caption; string CSName; uint32 ProductType; uint32 OperatingSystemSKU; uint32 OSLanguage; "
            "string OSArchitecture; string WindowsDirectory; string[] MUILanguages; uint64 TotalVisibleMemorySize; "
            "uint64 FreePhysicalMemory; Reboot(); Shutdown(); Win32Shutdown(sint32 Flags, sint32 Reserved)"
        ),
        "Win32_ComputerSystem": (
            "key string Name; string Manufacturer; string Model; string SystemFamily; string SystemSKUNumber; "
            "boolean PartOfDomain; string Domain; string Workgroup; uint16 DomainRole; uint64 TotalPhysicalMemory; "
            "boolean HypervisorPresent; uint16 PCSystemType; string UserName; "
            "JoinDomainOrWorkgroup(string AccountOU, uint32 FJoinOptions, string Name, string Password, string UserName); "
            "UnjoinDomainOrWorkgroup(uint32 FUnjoinOptions, string Password, string UserName); "
            "Rename(string Name, string Password, string UserName)"
        ),
        "Win32_ComputerSystemProduct": ("key string IdentifyingNumber; key string Name; key string Version; string UUID; string Vendor"),
        "Win32_BIOS": "string SerialNumber; string SMBIOSBIOSVersion; string Manufacturer; string Version",
        "Win32_SystemEnclosure": "key string Tag; string SMBIOSAssetTag; uint16[] ChassisTypes; string SerialNumber",
        "Win32_Processor": (
            "key string DeviceID; string Name; uint16 Architecture; uint16 AddressWidth; uint32 MaxClockSpeed; uint32 NumberOfCores"
        ),
        "Win32_NetworkAdapter": (
            "key string DeviceID; string Name; string MACAddress; boolean PhysicalAdapter; boolean NetEnabled; "
            "string NetConnectionID; string PNPDeviceID; uint32 Index; uint32 InterfaceIndex; string GUID; string AdapterType"
        ),
        "Win32_NetworkAdapterConfiguration": (
            "key uint32 Index; uint32 InterfaceIndex; string MACAddress; boolean IPEnabled; boolean DHCPEnabled; "
            "string DHCPServer; string[] IPAddress; string[] IPSubnet; string[] DefaultIPGateway; "
            "string[] DNSServerSearchOrder; string DNSDomain; string[] DNSDomainSuffixSearchOrder; "
            "uint32 TcpipNetbiosOptions; string Description"
        ),
        "Win32_PnPEntity": (
            "key string DeviceID; string Name; string[] HardwareID; string[] CompatibleID; string PNPClass; string ClassGuid; "
            "uint32 ConfigManagerErrorCode; string Service; string Manufacturer; string Status"
        ),
        "Win32_Service": (
            "key string Name; string DisplayName; string State; string StartMode; boolean Started; string PathName; "
            "string StartName; uint32 ProcessId; uint32 ExitCode; StartService(); StopService(); Delete(); "
            "ChangeStartMode(string StartMode)"
        ),
        "Win32_Process": (
            "key string Handle; uint32 ProcessId; string Name; string CommandLine; string ExecutablePath; "
            "datetime CreationDate; uint32 ParentProcessId; uint32 SessionId; Terminate(uint32 Reason); "
            "static Create(string CommandLine, string CurrentDirectory, Win32_ProcessStartup ProcessStartupInformation) "
            "-> uint32 ProcessId"
        ),
        "Win32_ProcessStartup": (
            "uint32 CreateFlags; string[] EnvironmentVariables; uint16 ErrorMode; uint32 FillAttribute; uint32 PriorityClass; "
            "uint16 ShowWindow; string Title; string WinstationDesktop; uint32 X; uint32 XCountChars; uint32 XSize; uint32 Y; "
            "uint32 YCountChars; uint32 YSize"
        ),
        "Win32_Volume": (
            "key string DeviceID; string DriveLetter; string FileSystem; string Label; uint64 Capacity; uint64 FreeSpace; "
            "uint32 DriveType; boolean BootVolume; boolean SystemVolume; boolean DirtyBitSet; string Name; uint32 SerialNumber; "
            "boolean PageFilePresent"
        ),
        "Win32_UserAccount": (
            "key string Domain; key string Name; string SID; boolean LocalAccount; boolean Disabled; boolean PasswordRequired; "
            "string FullName"
        ),
        "Win32_UserProfile": "key string SID; string LocalPath; boolean Loaded; boolean Special",
        "Win32_QuickFixEngineering": (
            "key string CSName; key string HotFixID; key string ServicePackInEffect; string InstalledOn; string Description"
        ),
        "CIM_DataFile": (
            "key string Name; uint64 FileSize; string Version; datetime LastModified; datetime CreationDate; string Drive; "
            "string Path; string FileName; string Extension; Copy(string FileName); Rename(string FileName); Delete()"
        ),
        "Win32_Directory": "key string Name; string Drive; string Path; string FileName; Rename(string FileName); Delete()",
        "SoftwareLicensingService": "key string Version; uint32 RemainingWindowsReArmCount",
        "StdRegProv": _STD_REG_PROV,
    },
    DEFAULT: {"StdRegProv": _STD_REG_PROV},
    STORAGE: {
        "MSFT_Disk": (
            "key string ObjectId; uint32 Number; string FriendlyName; string Model; string SerialNumber; string UniqueId; "
            "string Path; string Location; uint64 Size; uint64 AllocatedSize; uint32 LogicalSectorSize; uint32 PhysicalSectorSize; "
            "uint16 BusType; uint16 PartitionStyle; uint32 NumberOfPartitions; boolean IsBoot; boolean IsSystem; "
            "boolean IsOffline; boolean IsReadOnly; string Guid; uint32 Signature"
        ),
        "MSFT_Partition": (
            "key string ObjectId; string UniqueId; uint32 DiskNumber; uint32 PartitionNumber; uint64 Offset; uint64 Size; "
            "string GptType; uint16 MbrType; string Guid; char16 DriveLetter; string[] AccessPaths; boolean IsActive; "
            "boolean IsBoot; boolean IsSystem; boolean IsHidden; boolean IsReadOnly; boolean NoDefaultDriveLetter"
        ),
        "MSFT_Volume": (
            "key string ObjectId; string UniqueId; string Path; char16 DriveLetter; string FileSystem; string FileSystemLabel; "
            "uint64 Size; uint64 SizeRemaining; uint32 DriveType; uint32 AllocationUnitSize"
        ),
    },
    TASK_SCHEDULER: {
        "MSFT_ScheduledTask": "key string TaskPath; key string TaskName; string URI; string Author; uint8 State",
    },
    VOLUME_ENCRYPTION: {
        "Win32_EncryptableVolume": (
            "key string DeviceID; string DriveLetter; string PersistentVolumeID; uint32 ProtectionStatus; "
            "uint32 ConversionStatus; uint32 EncryptionMethod; "
            "GetConversionStatus() -> uint32 ConversionStatus, uint32 EncryptionPercentage; "
            "GetProtectionStatus() -> uint32 ProtectionStatus; DisableKeyProtectors(uint32 DisableCount); Decrypt()"
        ),
    },
}

#: Classes that the two schemas do not hold. root\ccm comes with the Configuration Manager client: its members are those of
#: Microsoft's client SDK reference and of sccmclictrlib. What is in root\osd is the Windows PE agent's own.
OTHER_CLASSES: dict[str, dict[str, str]] = {
    CCM: {
        "SMS_Client": (
            "string ClientVersion; static TriggerSchedule(string sScheduleID); "
            "static GetAssignedSite() -> string sSiteCode; static SetClientProvisioningMode(boolean bEnable)"
        ),
    },
    OSD: {
        # Connect and Disconnect answer with the API's own code (997: not yet, the same call again waits on). Fresh: every other connection
        # to that server is ended first. Disconnect without Name ends all.
        "OSD_NetworkDrive": (
            "key string LocalName; key string RemoteName; "
            "static Connect(string RemoteName, string UserName, string Password, string LocalName, boolean Fresh); "
            "static Disconnect(string Name)"
        ),
        # Create starts a detached command, with "name=base64" files in its folder, and answers as Get does; Get waits up to Wait
        # seconds for output past Offset or the end; Stop ends the tree.
        # Output is base64 of the raw bytes. ExitCode is null while State is 'Running'; Stop makes it 1460 (ERROR_TIMEOUT).
        "OSD_Job": (
            "key string Id; string CommandLine; string State; uint32 ExitCode; uint32 ProcessId; datetime StartTime; "
            "datetime EndTime; uint64 OutputSize; "
            "static Create(string Id, string CommandLine, string CurrentDirectory, string[] Environment, string Input, "
            "uint32 TimeLimit, string[] Files, uint32 Wait) "
            "-> uint32 ProcessId, string State, uint32 ExitCode, string Output, uint64 NextOffset; "
            "Get(uint64 Offset, uint32 Wait) -> string State, uint32 ExitCode, string Output, uint64 NextOffset; Stop()"
        ),
    },
}

SCHEMA = Schema({**WINDOWS_CLASSES, **OTHER_CLASSES})
