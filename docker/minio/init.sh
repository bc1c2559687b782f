#!/bin/sh
# Buckets and the pipeline's own user. Repeating it is harmless.
set -eu
mc alias set lake http://minio:9000 "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD"
for bucket in bronze silver gold; do
    mc mb --ignore-existing "lake/$bucket"
done
# Bronze is never changed: an overwritten object stays as an older version, and the pipeline's user cannot delete any.
mc version enable lake/bronze
mc admin policy create lake chpipe /init/chpipe-policy.json
mc admin user add lake "$CHPIPE_S3_ACCESS_KEY_ID" "$CHPIPE_S3_SECRET_ACCESS_KEY"
mc admin policy attach lake chpipe --user "$CHPIPE_S3_ACCESS_KEY_ID" || mc admin user info lake "$CHPIPE_S3_ACCESS_KEY_ID"
