#!/usr/bin/perl

# Not under valgrind: it measures time
#
# At one provider no more than 16 polls are under way, however many jobs are
# due; another one does not wait for it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 6;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(many);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $jobs = 40;
my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $user = customer($pg, 100);
my %done = (body => { status => 'completed', url => 'https://v.test/1' });

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, BASE => $provider->url },
    config => <<'EOT')->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%";
    vidgen_monitor  poll=200ms timeout=40s interval=1h;

    vidgen_provider slow {
        submit { url %%BASE%%/slow; job_id /request_id; }
        poll   { url %%BASE%%/slow/$vidgen_provider_job_id;
                 status /status; video_url /url; }
    }
    vidgen_provider quick {
        submit { url %%BASE%%/quick; job_id /request_id; }
        poll   { url %%BASE%%/quick/$vidgen_provider_job_id;
                 status /status; video_url /url; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        location = /generate-video    { vidgen_generate; }
    }
}
EOT

sub generate {
    my ($name, $n) = @_;
    return scalar grep { $_->{status} == 200 } many($n, 'POST',
        $nginx->url('/generate-video'), {}, qq({"user_id":"$user",)
        . qq("model_id":"m","prompt":"p","provider":"$name"}));
}

sub polls {
    my ($name) = @_;
    return scalar grep { $_->{uri} =~ m{^/$name/} } @{ $provider->requests };
}

$provider->on(qr{GET /slow/}, wait => 1, %done);
is(generate('slow', $jobs), $jobs, 'accepted');
ok((wait_for { polls('slow') >= 16 } 30), 'the first are asked for');

# the other one shows that time has passed

generate('quick', 1);
ok((wait_for { polls('quick') >= 5 } 30), 'another provider is asked');
is(polls('slow'), 16, 'no more are under way');

$provider->on(qr{GET /slow/}, %done);
$provider->on(qr{GET /quick/}, %done);
$provider->release;
ok((wait_for { $pg->value("SELECT count(*) FROM video_jobs
    WHERE status = 'completed'") == $jobs + 1 } 30), 'all end');
is_deeply([wrong_books($pg)], [], 'the books are right');
