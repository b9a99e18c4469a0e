#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "core/ngx_vidgen_store.h"
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_conf_pass.h"


#define NGX_HTTP_VIDGEN_ZONE_SIZE  (10 * 1024 * 1024)


static ngx_int_t ngx_http_vidgen_check_providers(ngx_conf_t *cf,
    ngx_http_vidgen_main_conf_t *mcf);
static ngx_int_t ngx_http_vidgen_check_zone(ngx_conf_t *cf,
    ngx_http_vidgen_main_conf_t *mcf);
static ngx_int_t ngx_http_vidgen_check_database(ngx_conf_t *cf,
    ngx_http_vidgen_main_conf_t *mcf);
static ngx_int_t ngx_http_vidgen_check_location(ngx_conf_t *cf,
    ngx_http_vidgen_main_conf_t *mcf, ngx_http_vidgen_location_t *location);
static ngx_int_t ngx_http_vidgen_check_webhook(ngx_conf_t *cf,
    ngx_http_vidgen_location_t *location);
static ngx_int_t ngx_http_vidgen_check_names(ngx_conf_t *cf,
    ngx_http_vidgen_main_conf_t *mcf, ngx_http_vidgen_location_t *location);
static ngx_int_t ngx_http_vidgen_check_generate(ngx_conf_t *cf,
    ngx_http_vidgen_main_conf_t *mcf, ngx_http_vidgen_location_t *location);


ngx_int_t
ngx_http_vidgen_check_conf(ngx_conf_t *cf)
{
    ngx_int_t                     rc;
    ngx_uint_t                    i;
    ngx_conf_file_t               place, *saved;
    ngx_http_vidgen_location_t   *location;
    ngx_http_vidgen_main_conf_t  *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_vidgen_module);

    if (mcf->providers.nelts == 0 && mcf->locations.nelts == 0
        && mcf->database == NULL && mcf->zone_size == 0)
    {
        return NGX_OK;
    }

    if (ngx_http_vidgen_check_providers(cf, mcf) != NGX_OK
        || ngx_http_vidgen_check_zone(cf, mcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (mcf->database) {
        ngx_http_vidgen_check_at(cf, saved, place, mcf->database_file,
                                 mcf->database_line);
        rc = ngx_http_vidgen_check_database(cf, mcf);
        cf->conf_file = saved;

        if (rc != NGX_OK) {
            return NGX_ERROR;
        }
    }

    location = mcf->locations.elts;

    for (i = 0; i < mcf->locations.nelts; i++) {
        ngx_http_vidgen_check_at(cf, saved, place, location[i].file,
                                 location[i].line);
        rc = ngx_http_vidgen_check_location(cf, mcf, &location[i]);
        cf->conf_file = saved;

        if (rc != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return ngx_http_vidgen_check_monitor(cf, mcf);
}


static ngx_int_t
ngx_http_vidgen_check_providers(ngx_conf_t *cf,
    ngx_http_vidgen_main_conf_t *mcf)
{
    ngx_uint_t               i;
    ngx_conf_file_t          place, *saved;
    ngx_vidgen_provider_t  **provider, **submitter;

    provider = mcf->providers.elts;

    for (i = 0; i < mcf->providers.nelts; i++) {

        if (provider[i]->webhook && provider[i]->webhook->scheme.token
            && mcf->secrets.nelts == 0)
        {
            ngx_http_vidgen_check_at(cf, saved, place, provider[i]->file,
                                     provider[i]->line);
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"signature token\" of provider \"%V\" needs"
                               " \"vidgen_secret\"", &provider[i]->name);
            cf->conf_file = saved;
            return NGX_ERROR;
        }

        if (provider[i]->submit == NULL) {
            continue;
        }

        submitter = ngx_array_push(&mcf->submitters);
        if (submitter == NULL) {
            return NGX_ERROR;
        }

        *submitter = provider[i];
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_vidgen_check_zone(ngx_conf_t *cf, ngx_http_vidgen_main_conf_t *mcf)
{
    ngx_conf_file_t  place, *saved;

    if (mcf->zone_size == 0) {
        mcf->zone_size = NGX_HTTP_VIDGEN_ZONE_SIZE;
        mcf->zone_file = cf->conf_file->file.name.data;
        mcf->zone_line = cf->conf_file->line;
    }

    ngx_http_vidgen_check_at(cf, saved, place, mcf->zone_file,
                             mcf->zone_line);

    mcf->zone = ngx_vidgen_zone_add(cf, &mcf->zone_name, mcf->zone_size,
                                    &ngx_http_vidgen_module);
    cf->conf_file = saved;

    return mcf->zone ? NGX_OK : NGX_ERROR;
}


/* the resolver is that of the http block; without one, names resolve now */
static ngx_int_t
ngx_http_vidgen_check_database(ngx_conf_t *cf,
    ngx_http_vidgen_main_conf_t *mcf)
{
    char                      *rv;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->resolver && clcf->resolver->connections.nelts) {
        mcf->database->resolver = clcf->resolver;

        /* that of http itself is not merged with its default */

        if (clcf->resolver_timeout != NGX_CONF_UNSET_MSEC) {
            mcf->database->resolver_timeout = clcf->resolver_timeout;
        }
    }

    rv = ngx_vidgen_pg_conf_check(cf, mcf->database);

    if (rv != NGX_CONF_OK) {
        if (rv != NGX_CONF_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"vidgen_database\" directive %s", rv);
        }

        return NGX_ERROR;
    }

    return ngx_vidgen_store_configure(cf, mcf->database, mcf->zone,
                                      mcf->notify);
}


static ngx_int_t
ngx_http_vidgen_check_location(ngx_conf_t *cf,
    ngx_http_vidgen_main_conf_t *mcf, ngx_http_vidgen_location_t *location)
{
    if (location->conf->role == NGX_HTTP_VIDGEN_VERIFY
        && location->conf->webhook_provider == NULL)
    {
        return NGX_OK;
    }

    if (mcf->database == NULL
        && location->conf->role != NGX_HTTP_VIDGEN_VERIFY
        && location->conf->role != NGX_HTTP_VIDGEN_HEALTH)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" needs \"vidgen_database\"",
                           &location->directive);
        return NGX_ERROR;
    }

    if (location->conf->role == NGX_HTTP_VIDGEN_JOB) {
        return NGX_OK;
    }

    if (mcf->providers.nelts == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" needs a \"vidgen_provider\"",
                           &location->directive);
        return NGX_ERROR;
    }

    if (ngx_http_vidgen_check_names(cf, mcf, location) != NGX_OK) {
        return NGX_ERROR;
    }

    if (location->conf->role == NGX_HTTP_VIDGEN_GENERATE) {
        return ngx_http_vidgen_check_generate(cf, mcf, location);
    }

    if (location->conf->role == NGX_HTTP_VIDGEN_WEBHOOK) {
        return ngx_http_vidgen_check_webhook(cf, location);
    }

    return NGX_OK;
}


/* what vidgen_webhook passed on would be applied: nothing to try out there */
static ngx_int_t
ngx_http_vidgen_check_webhook(ngx_conf_t *cf,
    ngx_http_vidgen_location_t *location)
{
    ngx_conf_file_t              place, *saved;
    ngx_http_vidgen_loc_conf_t  *lcf;

    lcf = location->conf;

    if (!lcf->dry_run) {
        return NGX_OK;
    }

    ngx_http_vidgen_check_at(cf, saved, place, lcf->dry_run_file,
                             lcf->dry_run_line);
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"vidgen_dry_run\" is of \"vidgen_verify\" only, but"
                       " it is on where \"%V\" is in effect, in %s:%ui",
                       &location->directive, location->file, location->line);
    cf->conf_file = saved;

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_vidgen_check_names(ngx_conf_t *cf, ngx_http_vidgen_main_conf_t *mcf,
    ngx_http_vidgen_location_t *location)
{
    ngx_str_t               *name;
    ngx_uint_t               i;
    ngx_array_t             *candidates;
    ngx_vidgen_provider_t   *provider, **candidate;

    name = location->names.elts;
    candidates = location->conf->candidates;

    for (i = 0; i < location->names.nelts; i++) {

        provider = ngx_vidgen_provider_find(&mcf->providers, &name[i]);

        if (provider == NULL) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "unknown provider \"%V\"", &name[i]);
            return NGX_ERROR;
        }

        if (location->conf->role == NGX_HTTP_VIDGEN_VERIFY
            && provider->webhook == NULL)
        {
            ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                               "provider \"%V\" has no \"webhook\": \"%V\""
                               " refuses every request",
                               &name[i], &location->directive);
        }

        if (location->conf->role != NGX_HTTP_VIDGEN_GENERATE) {
            continue;
        }

        if (provider->submit == NULL) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "provider \"%V\" has no \"submit\"", &name[i]);
            return NGX_ERROR;
        }

        if (ngx_vidgen_provider_find(candidates, &name[i])) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate provider \"%V\"", &name[i]);
            return NGX_ERROR;
        }

        candidate = ngx_array_push(candidates);
        if (candidate == NULL) {
            return NGX_ERROR;
        }

        *candidate = provider;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_vidgen_check_generate(ngx_conf_t *cf,
    ngx_http_vidgen_main_conf_t *mcf, ngx_http_vidgen_location_t *location)
{
    ngx_uint_t                   i;
    ngx_array_t                 *candidates;
    ngx_vidgen_provider_t      **provider;
    ngx_http_vidgen_loc_conf_t  *lcf;

    lcf = location->conf;
    candidates = lcf->candidates ? lcf->candidates : &mcf->submitters;
    provider = candidates->elts;

    if (candidates->nelts == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\": no provider has a \"submit\"",
                           &location->directive);
        return NGX_ERROR;
    }

    for (i = 0; i < candidates->nelts; i++) {
        if (provider[i]->submit->webhook_url && lcf->webhook_url.len == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" needs \"vidgen_webhook_url\" for"
                               " provider \"%V\"",
                               &location->directive, &provider[i]->name);
            return NGX_ERROR;
        }
    }

    if (lcf->user_id == NULL) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"%V\" without \"vidgen_user_id\": whoever reaches"
                           " it can spend anyone's credits",
                           &location->directive);
    }

    return ngx_http_vidgen_check_pass(cf, location, candidates);
}
