-- Made by `dayfly batch setup slurm` from the site's settings; make it again when they change.
-- Refuses at submission what would be refused on the node, so that the user hears of it at once. The node decides all the same.

local rules = {
   -- RULES
}

-- What the plugin sent with the job: NAME=value, or "" where the job does not say it.
local function said(job_desc, name)
   local environment = job_desc.spank_job_env
   local size = job_desc.spank_job_env_size or 0
   for index = 0, size - 1 do
      local line = environment and environment[index] or ""
      local value = string.match(line, "^" .. name .. "=(.*)$")
      if value then
         return value
      end
   end
   return ""
end

local function meant(image)
   local library, name = string.match(image, "^(%a+)/(.*)$")
   library, name = library or "system", name or image
   name = string.match(name, "(sha256:%x+)$") or name
   if not string.find(name, ":", 1, true) then
      name = name .. ":latest"
   end
   return library .. "/" .. name
end

local function refuse(text)
   slurm.log_user("dayfly: " .. text)
   return slurm.ERROR
end

local function check(job_desc, partition)
   local rule = rules[partition] or rules[""]
   local image = said(job_desc, "DAYFLY_IMAGE")
   local asks = image ~= "none" and (image ~= "" or said(job_desc, "DAYFLY_BOOT") ~= "" or said(job_desc, "DAYFLY_NETWORK") ~= ""
      or said(job_desc, "DAYFLY_SHARE") ~= "")
   if asks and rule.vm == "never" then
      return refuse(partition .. " has no virtual machines (leave --vm-image out, or submit to another partition)")
   end
   if image == "none" and rule.vm == "always" then
      return refuse("every job of " .. partition .. " runs in a virtual machine (leave --vm-image=none out)")
   end
   if asks and image == "" and rule.image == "" then
      return refuse("the job names no image, and the site has no default one (name one: --vm-image=debian:12)")
   end
   if image == "" or image == "none" or #rule.images == 0 then
      return slurm.SUCCESS
   end
   for _, pattern in ipairs(rule.images) do
      if string.find(meant(image), pattern) then
         return slurm.SUCCESS
      end
   end
   return refuse("the image " .. image .. " is not allowed here (ask the administrator which are)")
end

function slurm_job_submit(job_desc, part_list, submit_uid)
   local partitions = job_desc.partition or job_desc.default_partition or ""
   if partitions == "" then
      for name, partition in pairs(part_list) do
         if partition.flag_default == 1 then
            partitions = name
         end
      end
   end
   for partition in string.gmatch(partitions, "[^,]+") do
      local answer = check(job_desc, partition)
      if answer ~= slurm.SUCCESS then
         return answer
      end
   end
   return slurm.SUCCESS
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
   return slurm.SUCCESS
end

return slurm.SUCCESS
