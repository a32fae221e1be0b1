#Requires -Version 5.1
<#
.SYNOPSIS
    Makes a Hyper-V virtual machine that runs the Tierlift recovery appliance, starts it and opens its console.

.DESCRIPTION
    Source disks (-Disk) are images of the NAS's disks as VHD or VHDX. Hyper-V has no switch that attaches a virtual disk
    read-only. So each source is marked read-only as a file, and the machine is given a differencing disk over it: what
    the machine would write goes to that file, never to the source. A physical disk cannot be protected in this way;
    image it first. Nothing is converted.

    This script was written from Microsoft's documentation of the cmdlets. It was not run on Hyper-V.

.PARAMETER Name
    Name of the new machine.
.PARAMETER Generation
    1 (BIOS; -Image is tierlift.vhd) or 2 (UEFI; -Image is tierlift.vhdx).
.PARAMETER Image
    The appliance's own disk. It is not written to.
.PARAMETER Disk
    Images of the NAS's disks, in any order.
.PARAMETER Target
    The disk the files are copied to. It is written to.
.PARAMETER Scratch
    A disk for overlays that do not fit into memory. It is written to.
.PARAMETER MemoryMB
    Memory of the machine; at least 256.
.PARAMETER WorkFolder
    Where the differencing disks go. The folder of -Image unless said otherwise.
.PARAMETER NoConsole
    Start the machine only. Otherwise its console is opened: PuTTY on the pipe where PuTTY is found, else Hyper-V's own
    window, whose screen has a prompt, too.

.EXAMPLE
    .\New-TierliftVM.ps1 -Image C:\tierlift\tierlift.vhdx -Disk C:\tierlift\slot1.vhdx, C:\tierlift\slot2.vhdx -Target D:\target.vhdx
#>
[CmdletBinding()]
param(
    [ValidateNotNullOrEmpty()]
    [ValidatePattern('^[A-Za-z0-9_-]+$')]
    [string] $Name = 'Tierlift',

    [ValidateSet(1, 2)]
    [int] $Generation = 2,

    [Parameter(Mandatory = $true)]
    [string] $Image,

    [Parameter(Mandatory = $true)]
    [string[]] $Disk,

    [string] $Target,

    [string] $Scratch,

    [ValidateRange(256, 1048576)]
    [int] $MemoryMB = 2048,

    [string] $WorkFolder,

    [switch] $NoConsole
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

# Ends the script with what is wrong and what to do about it.
function Stop-WithReason([string] $Reason) {
    throw "New-TierliftVM: $Reason"
}

function Assert-Host {
    $identity = [Security.Principal.WindowsIdentity]::GetCurrent()
    $principal = New-Object Security.Principal.WindowsPrincipal($identity)
    if (-not $principal.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) {
        Stop-WithReason 'run PowerShell as administrator (right click on it, "Run as administrator").'
    }
    if (-not (Get-Module -ListAvailable -Name Hyper-V)) {
        Stop-WithReason 'Hyper-V''s cmdlets are not there. Windows Pro: "Turn Windows features on or off", tick all of Hyper-V, restart. Windows Home has no Hyper-V.'
    }
    $service = Get-Service -Name vmms -ErrorAction SilentlyContinue
    if ($null -eq $service -or $service.Status -ne 'Running') {
        Stop-WithReason 'the service "Hyper-V Virtual Machine Management" (vmms) does not run: Start-Service vmms.'
    }
    if (Get-VM -Name $Name -ErrorAction SilentlyContinue) {
        Stop-WithReason "there is a machine called $Name already. Take another -Name, or remove it: Remove-VM $Name."
    }
}

# The full path of a virtual disk that Hyper-V can use, or the end of the script.
function Resolve-Disk([string] $Path, [string] $Purpose) {
    if (-not (Test-Path -LiteralPath $Path -PathType Leaf)) {
        Stop-WithReason "-$Purpose ${Path}: there is no such file."
    }
    $file = Get-Item -LiteralPath $Path -Force
    if ($file.Extension -notin @('.vhd', '.vhdx')) {
        Stop-WithReason "-$Purpose ${Path}: Hyper-V takes .vhd and .vhdx only. Convert it: qemu-img convert -O vhdx -o subformat=fixed slot1.img slot1.vhdx"
    }
    $unusable = [IO.FileAttributes]::Compressed -bor [IO.FileAttributes]::Encrypted -bor [IO.FileAttributes]::SparseFile
    if (($file.Attributes -band $unusable) -ne 0) {
        Stop-WithReason "-$Purpose ${Path}: the file is compressed, encrypted or sparse ($($file.Attributes)); Hyper-V refuses such files. compact /u, cipher /d, or: fsutil sparse setflag `"$Path`" 0"
    }
    try {
        $info = Get-VHD -Path $file.FullName
    } catch {
        Stop-WithReason "-$Purpose ${Path}: Hyper-V cannot read it as a virtual disk: $($_.Exception.Message)"
    }
    if ($info.Attached) {
        Stop-WithReason "-$Purpose ${Path}: it is in use by this computer or a machine. Dismount-VHD, or stop that machine."
    }
    return $file
}

# A new differencing disk over a file that is not to be written to.
function New-Overlay([IO.FileInfo] $Parent, [string] $Label) {
    $path = Join-Path $WorkFolder "$Name-$Label$($Parent.Extension)"
    if (Test-Path -LiteralPath $path) {
        Stop-WithReason "$path is there already, from an earlier machine. It holds nothing you need when no machine uses it: remove it, or take another -Name."
    }
    New-VHD -Path $path -ParentPath $Parent.FullName -Differencing | Out-Null
    return $path
}

function Protect-Source([IO.FileInfo] $File) {
    $File.IsReadOnly = $true
    $File.Refresh()
    if (-not $File.IsReadOnly) {
        Stop-WithReason "$($File.FullName) cannot be marked read-only: is it on a drive without file attributes?"
    }
}

# Where PuTTY is, or nothing.
function Find-Putty {
    $command = Get-Command -Name 'putty.exe' -CommandType Application -ErrorAction SilentlyContinue | Select-Object -First 1
    if ($null -ne $command) { return $command.Source }
    foreach ($folder in @($env:ProgramFiles, ${env:ProgramFiles(x86)})) {
        if (-not $folder) { continue }
        $path = Join-Path $folder 'PuTTY\putty.exe'
        if (Test-Path -LiteralPath $path -PathType Leaf) { return $path }
    }
}

# The pipe is there once the machine runs. A console that does not open is no reason to stop the machine.
function Open-Console([string] $Pipe) {
    $putty = Find-Putty
    try {
        if ($putty) {
            Start-Process -FilePath $putty -ArgumentList '-serial', $Pipe
            Write-Output 'PuTTY is open on its console: press Enter there.'
        } else {
            Start-Process -FilePath 'vmconnect.exe' -ArgumentList $env:COMPUTERNAME, $Name
            Write-Output 'There is no PuTTY here. Its screen is open in a window of Hyper-V: the prompt there takes the same commands.'
        }
    } catch {
        Write-Warning "Its console could not be opened: $($_.Exception.Message)"
    }
}

Assert-Host

$boot = Resolve-Disk $Image 'Image'
$wanted = if ($Generation -eq 1) { '.vhd' } else { '.vhdx' }
if ($boot.Extension -ne $wanted) {
    Stop-WithReason "generation $Generation starts from tierlift$wanted; -Image is $($boot.Name)."
}
$sources = @($Disk | ForEach-Object { Resolve-Disk $_ 'Disk' })
$written = @()
if ($Target) { $written += Resolve-Disk $Target 'Target' }
if ($Scratch) { $written += Resolve-Disk $Scratch 'Scratch' }
$all = @($boot) + $sources + $written
$twice = @($all | Group-Object -Property FullName | Where-Object { $_.Count -gt 1 })
if ($twice.Count -gt 0) {
    Stop-WithReason "$($twice[0].Name) is named more than once."
}
foreach ($file in $written) {
    if ($file.IsReadOnly) {
        Stop-WithReason "$($file.FullName) is to be written to and is marked read-only."
    }
}
if (-not $WorkFolder) { $WorkFolder = $boot.DirectoryName }
if (-not (Test-Path -LiteralPath $WorkFolder -PathType Container)) {
    Stop-WithReason "-WorkFolder ${WorkFolder}: there is no such folder."
}

foreach ($file in @($boot) + $sources) { Protect-Source $file }
$bootOverlay = New-Overlay $boot 'boot'
$overlays = @()
for ($i = 0; $i -lt $sources.Count; $i++) {
    $overlays += New-Overlay $sources[$i] "disk$($i + 1)"
}

New-VM -Name $Name -Generation $Generation -MemoryStartupBytes ([long] $MemoryMB * 1048576) -VHDPath $bootOverlay | Out-Null
try {
    Set-VMMemory -VMName $Name -DynamicMemoryEnabled $false
    Set-VM -Name $Name -CheckpointType Disabled -AutomaticStartAction Nothing -AutomaticStopAction ShutDown
    if ($Generation -eq 2) {
        Set-VMFirmware -VMName $Name -EnableSecureBoot Off
        Set-VMFirmware -VMName $Name -FirstBootDevice (Get-VMHardDiskDrive -VMName $Name)
    }
    $console = "\\.\pipe\$Name-console"
    $program = "\\.\pipe\$Name-program"
    # Generation 2 has no port at all unless it is set before the start.
    Set-VMComPort -VMName $Name -Number 1 -Path $console
    Set-VMComPort -VMName $Name -Number 2 -Path $program
    if (-not (Get-VMScsiController -VMName $Name)) { Add-VMScsiController -VMName $Name }
    foreach ($path in $overlays) {
        Add-VMHardDiskDrive -VMName $Name -ControllerType SCSI -ControllerNumber 0 -Path $path
    }
    foreach ($file in $written) {
        Add-VMHardDiskDrive -VMName $Name -ControllerType SCSI -ControllerNumber 0 -Path $file.FullName
    }
    Start-VM -Name $Name
} catch {
    Write-Warning "The machine $Name is not ready. Take it away before the next try: Remove-VM -Name $Name -Force; Remove-Item `"$(Join-Path $WorkFolder "$Name-*.vhd*")`""
    throw
}

Write-Output "$Name runs (generation $Generation, $MemoryMB MiB)."
for ($i = 0; $i -lt $sources.Count; $i++) {
    Write-Output "source $($i + 1): $($sources[$i].FullName), marked read-only; overlay $($overlays[$i])"
}
foreach ($file in $written) { Write-Output "written: $($file.FullName)" }
Write-Output ''
if (-not $NoConsole) { Open-Console $console }
Write-Output 'To open its console again (PuTTY as administrator):'
Write-Output "    putty -serial $console"
Write-Output 'and press Enter: tierlift> is the prompt. Type auto. Programs use:'
Write-Output "    $program"
Write-Output ''
Write-Output "When it is done: poweroff at the prompt, then Remove-VM -Name $Name -Force, and remove $Name-*.vhd* in $WorkFolder."
Write-Output 'The images stay marked read-only; Explorer, Properties takes that away.'
