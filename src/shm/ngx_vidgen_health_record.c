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


void
ngx_vidgen_health_change(ngx_vidgen_zone_sh_t *sh,
    ngx_vidgen_health_record_t *copy)
{
    ngx_vidgen_relay_change_t  *change;

    change = &sh->change[sh->changes % NGX_VIDGEN_RELAY_CHANGES];

    change->len = copy->len;
    ngx_memcpy(change->name, copy->name, sizeof(copy->name));

    change->status = copy->health.status;
    change->failures = copy->health.failures;
    change->response_time_ms = copy->health.response_time_ms;
    change->when_ms = ngx_vidgen_relay_now();

    /* counted when it is there, should this process die here */

    ngx_memory_barrier();
    sh->changes++;
}
