"""The names of files and folders that Dayfly stores on disk. docs/reference/files.md describes each.

All code that reads or writes one of these files takes its name from here. The places of the top folders are in `dayfly.settings`.
"""

from __future__ import annotations

# Below /etc/dayfly, and below the user's configuration folder
SETTINGS_FILE = "settings.toml"
POLICY_FILE = "policy.toml"

# Below the folders of the XDG Base Directory Specification, or below /var/lib: `dayfly/…`
LIBRARY = "library"
TEMPLATES = "templates"
RECORDS = "jobs"
SUBMITTED = "submitted"
LOCAL_JOBS = "local"

# In a library: an OCI image layout (OCI image-spec, "Image Layout Specification"), and Dayfly's own files
OCI_LAYOUT = "oci-layout"
OCI_INDEX = "index.json"
BLOBS = "blobs"
SHA256_BLOBS = f"{BLOBS}/sha256"
OWN = ".dayfly"
LIBRARY_LOCK = f"{OWN}/lock"
ADDING_LOCK = f"{OWN}/adding"
VERIFIED = f"{OWN}/verified"
WORK = f"{OWN}/work"
PULLS = f"{OWN}/pulls"
WORK_LOCK = ".lock"
WORK_OUTSIDE = "outside"
TRUST = "trust"
TRUST_STATE = "state.json"
TRUST_LOCK = "lock"
SIGNED_LIST_SUFFIX = ".smime"

# In the folder of a published list
PUBLISHED_LIST = f"images{SIGNED_LIST_SUFFIX}"

# In a folder of records: `YYYY-MM-DD/ID.json`
RECORD_SUFFIX = ".json"
CONSOLE_SUFFIX = ".console"
RECORD_INDEX = "index"
INDEX_OF_RUNNING = "running"
INDEX_OF_BATCH_JOBS = "batch"

# In a folder of detached machines: `ID.json`
INSTANCES = "instances"
INSTANCE_SUFFIX = ".json"

# In a folder of templates: `NAME/…`, and a note next to it
TEMPLATE_DESCRIPTION = "template.json"
MEMORY, STATE, SCRATCH = "memory", "state", "scratch"
FAILED_SUFFIX = ".failed"

# In the cache
EMPTY_DISKS = "scratch"
IMAGE_FAILURES = "failing"
KVM_VERDICT = "kvm.{host}.{cpu}.json"

# In the folder of a local job
LOCAL_JOB, LOCAL_OWNER, LOCAL_STATUS, LOCAL_MESSAGE = "job.json", "owner", "status", "message"
