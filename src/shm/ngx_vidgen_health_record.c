#include <ngx_config.h>
#include <ngx_core.h>
#include "shm/ngx_vidgen_health.h"
#include "shm/ngx_vidgen_zone.h"
#include "shm/ngx_vidgen_zone_int.h"


ngx_vidgen_health_record_t *
ngx_vidgen_health_find(ngx_vidgen_zone_sh_t *sh, ngx_str_t *provider)
{
    ngx_uint_t                   i;
    ngx_vidgen_health_record_t  *record;

    for (i = 0; i < sh->nrecords; i++) {
        record = &sh->records[i];

        if (record->len && record->len == provider->len
            && ngx_memcmp(record->name, provider->data, provider->len) == 0)
        {
            return record;
        }
    }

    return NULL;
}


ngx_vidgen_health_record_t *
ngx_vidgen_health_open(ngx_vidgen_zone_sh_t *sh, ngx_str_t *provider,
    ngx_vidgen_health_record_t *copy)
{
    ngx_uint_t                   i;
    ngx_vidgen_health_record_t  *record;

    record = ngx_vidgen_health_find(sh, provider);

    if (record) {
        *copy = *record;
        return record;
    }

    ngx_memzero(copy, sizeof(ngx_vidgen_health_record_t));

    if (provider->len > sizeof(copy->name)) {
        return NULL;
    }

    copy->len = provider->len;
    ngx_memcpy(copy->name, provider->data, provider->len);

    record = &sh->records[0];

    for (i = 0; i < sh->nrecords && record->len; i++) {

        if (sh->records[i].len == 0 || sh->records[i].used < record->used) {
            record = &sh->records[i];
        }
    }

    return record;
}


void
ngx_vidgen_health_store(ngx_vidgen_zone_t *zone,
    ngx_vidgen_health_record_t *record, ngx_vidgen_health_record_t *copy)
{
    if (record == NULL) {
        return;
    }

    copy->used = ngx_time();

    ngx_vidgen_zone_dirty(zone, NGX_VIDGEN_DIRTY_HEALTH
                                + (record - zone->sh->records));

    *record = *copy;
}
