package VidgenTest::Sql;

# The functions of sql/ from Perl, over one psql that stays connected.
#
#   my $sql = VidgenTest::Sql->new($pg);
#   $sql->credits(u1 => 100);
#   my ($begun) = $sql->call(begin => { job => 'j1', attempt => 'a1' });
#   is($begun->{outcome}, 'go');
#   $sql->start('SELECT pg_sleep(1)');  $sql->finish;   # not waited for
#
# Short names stand for ids: id('j1') is always the same UUID.

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use Digest::SHA qw(sha256_hex);
use Exporter qw(import);
use IPC::Open3 qw(open3);
use JSON::PP ();
use Test::More ();

our @EXPORT_OK = qw(id);

# parameters in their order, with type and default value
my $WEEK = 7 * 86400 * 1000;
my %signature = (
    begin => [
        [job => 'uuid'], [attempt => 'uuid'], [user => 'uuid', 'u1'],
        [model => 'text', 'm1'], [prompt => 'text', 'a prompt'],
        [key => 'text'], [fingerprint => 'text'],
        [ttl_ms => 'bigint', $WEEK],
        [candidates => 'jsonb', '[{"name":"a"},{"name":"b"}]'],
        [preferred => 'text'], [lease_ms => 'integer', 70000],
    ],
    next_attempt => [
        [job => 'uuid'], [attempt => 'uuid'], [state => 'text', 'unknown'],
        [http_status => 'integer'], [reason => 'text', 'timeout'],
        [error => 'text'], [next => 'uuid'], [provider => 'text', 'b'],
        [lease_ms => 'integer', 70000], [max_jobs => 'integer'],
    ],
    submitted => [
        [job => 'uuid'], [attempt => 'uuid'], [provider_job_id => 'text'],
        [progress => 'text', 'queued'], [kept => 'jsonb'],
        [http_status => 'integer', 200], [estimated_time => 'integer', 120],
        [due_ms => 'integer'],
    ],
    abandon => [
        [job => 'uuid'], [attempt => 'uuid'], [state => 'text', 'refused'],
        [http_status => 'integer', 503], [reason => 'text', 'http_503'],
        [error => 'text', 'overloaded'], [answer_status => 'integer', 502],
        [answer_error => 'text'], [answer_code => 'text', 'provider_failed'],
    ],
    apply => [
        [provider => 'text', 'a'], [attempt => 'uuid'],
        [provider_job_id => 'text'], [status => 'text', 'completed'],
        [verdict => 'boolean', 't'], [video_url => 'text'],
        [error => 'text'], [digest => 'text', 'd1'], [body => 'text', '{}'],
        [default => 'boolean', 'f'], [ttl_ms => 'bigint', $WEEK],
        [source => 'text', 'webhook'],
    ],
    job => [[job => 'uuid'], [user => 'uuid']],
);


# Options: conninfo, or role => 'edge' for the role of a server in front.
sub new {
    my ($class, $pg, %opt) = @_;

    my $conninfo = $opt{conninfo}
        // ($opt{role} ? $pg->edge_conninfo : $pg->conninfo($opt{database}));
    my $self = bless { pg => $pg, marks => 0, owner => $$ }, $class;

    delete local @ENV{grep { /^PG/ } keys %ENV};
    local $ENV{PGCLIENTENCODING} = 'UTF8';
    open my $null, '>', '/dev/null' or die $!;
    $self->{pid} = open3($self->{in}, $self->{out},
        '>&' . fileno($null), "$pg->{bin}/psql", '-XqAt0', '-d', $conninfo,
        '-F', "\x1f", '-P', "null=\x01", '-f', '-');
    $self->{in}->autoflush(1);
    return $self;
}


# A UUID by name.
sub id {
    my ($name) = @_;
    return $name if !defined $name || $name =~ /^[0-9a-f-]{36}$/;
    my $hex = md5_hex($name);
    $hex =~ s/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/$1-$2-7$3-8$4-$5/;
    return $hex;
}


# Sends statements; finish() returns what the last of them returned: an array
# reference of array references.  It dies with "SQLSTATE: message".
sub start {
    my ($self, $sql) = @_;
    $self->{marks}++;
    $sql =~ s/;?\s*\z/;/;
    print {$self->{in}} "$sql\n"
        . "\\echo \x02:SQLSTATE\x03:LAST_ERROR_MESSAGE\x04$self->{marks}\n"
        or die "psql has gone";
}

sub finish {
    my ($self, %opt) = @_;

    $self->{text} //= '';
    my ($rows, $state, $message);
    until (defined $state) {
        if ($self->{text}
            =~ s/^([^\x02]*)\x02([^\x03]*)\x03([^\x04]*)\x04\d+\n//)
        {
            ($rows, $state, $message) = ($1, $2, $3);
            last;
        }
        sysread $self->{out}, $self->{text}, 65536, length $self->{text}
            or die "psql has gone: $self->{text}";
    }

    if ($state ne '00000') {
        die "$state: $message\n" unless $opt{state};
        return $state;
    }
    return $state if $opt{state};

    return [map { [map { $_ eq "\x01" ? undef : $_ } split /\x1f/, $_, -1] }
            split /\0/, $rows];
}

sub query {
    my ($self, $sql) = @_;
    $self->start($sql);
    return $self->finish;
}

sub value {
    my ($self, $sql) = @_;
    return $self->query($sql)->[0][0];
}

# The SQLSTATE of a statement: 00000 where all went well.
sub state {
    my ($self, $sql) = @_;
    $self->start($sql);
    return $self->finish(state => 1);
}


# The text of a call of vidgen.NAME with these events.
sub text {
    my ($name, @events) = @_;
    my @arrays;

    for my $parameter (@{ $signature{$name} }) {
        my ($field, $type, $default) = @$parameter;
        my @values;
        for my $event (@events) {
            my $value = exists $event->{$field} ? $event->{$field} : $default;
            $value = id($value) if $type eq 'uuid';
            $value = JSON::PP->new->canonical->encode($value) if ref $value;
            $value = sha256_hex($value)
                if defined $value && $field =~ /^(?:key|fingerprint)$/;
            push @values, defined $value ? "'" . $value =~ s/'/''/gr . "'"
                : 'NULL';
        }
        push @arrays, 'ARRAY[' . join(',', @values) . "]::${type}[]";
    }

    return "SELECT row_to_json(x) FROM vidgen.$name(" . join(', ', @arrays)
        . ') x ORDER BY x.ord';
}

# Calls vidgen.NAME once with these events; a hash for each.
sub call {
    my ($self, $name, @events) = @_;
    $self->start_call($name, @events);
    return $self->finish_call;
}

sub start_call {
    my ($self, $name, @events) = @_;
    $self->start(text($name, @events));
}

sub finish_call {
    my ($self) = @_;
    my @rows = map { decode($_->[0]) } @{ $self->finish };
    return wantarray ? @rows : $rows[0];
}

sub decode { JSON::PP->new->boolean_values(0, 1)->decode($_[0]) }


# Gives users these credits and remembers it for check().
sub credits {
    my ($self, %balance) = @_;
    $self->query('CREATE TABLE IF NOT EXISTS public.test_start'
        . ' (user_id uuid PRIMARY KEY, balance integer)');
    for my $user (sort keys %balance) {
        my $id = id($user);
        $self->query("INSERT INTO public.test_start VALUES ('$id',"
            . " $balance{$user});"
            . " INSERT INTO user_credits VALUES ('$id', $balance{$user})");
    }
}

sub balance {
    my ($self, $user) = @_;
    return $self->value("SELECT balance FROM user_credits"
        . " WHERE user_id = '" . id($user) . "'");
}

# A row of a table as a hash, by id or by another condition.
sub row {
    my ($self, $table, $where) = @_;
    $where = "id = '" . id($where) . "'" unless $where =~ /=/;
    my $rows = $self->query("SELECT row_to_json(x) FROM $table x WHERE $where");
    return @$rows ? decode($rows->[0][0]) : undef;
}

sub job     { $_[0]->row('video_jobs', $_[1]) }
sub attempt { $_[0]->row('vidgen.attempts', $_[1]) }


# A job with an accepted attempt, as a generation leaves it.
sub accepted {
    my ($self, %event) = @_;
    my ($begun) = $self->call(begin => \%event);
    die "begin: $begun->{outcome}" if $begun->{outcome} ne 'go';
    my ($row) = $self->call(submitted => { %event,
        provider_job_id => $event{provider_job_id} // "p-$event{job}" });
    die "submitted: $row->{outcome}" if $row->{outcome} ne 'recorded';
    return $row;
}


# What must hold after anything: a test each.
sub check {
    my ($self, $name) = @_;

    my %faults = (
        'each job with a price has one hold of it' => q{
            SELECT j.id FROM video_jobs j
              LEFT JOIN vidgen.ledger l ON l.job_id = j.id AND l.entry = 'hold'
             WHERE EXISTS (SELECT FROM vidgen.attempts a WHERE a.job_id = j.id)
               AND j.credits_used IS DISTINCT FROM coalesce(l.amount, 0)},
        'a refund of the same amount exactly when failed' => q{
            SELECT h.job_id FROM vidgen.ledger h
              JOIN video_jobs j ON j.id = h.job_id
              LEFT JOIN vidgen.ledger r
                ON r.job_id = h.job_id AND r.entry = 'refund'
             WHERE h.entry = 'hold'
               AND (j.status = 'failed') IS DISTINCT FROM
                   coalesce(r.amount = h.amount AND r.user_id = h.user_id,
                            false)},
        'balance = start - holds + refunds' => q{
            SELECT s.user_id FROM test_start s
              JOIN user_credits c USING (user_id)
             WHERE c.balance <> s.balance
                   - coalesce((SELECT sum(l.amount) FROM vidgen.ledger l
                                WHERE l.user_id = s.user_id
                                  AND l.entry = 'hold'), 0)
                   + coalesce((SELECT sum(l.amount) FROM vidgen.ledger l
                                WHERE l.user_id = s.user_id
                                  AND l.entry = 'refund'
                                  AND NOT l.refund_due), 0)},
        'status follows from the attempts' => q{
            SELECT j.id FROM video_jobs j
              JOIN (SELECT a.job_id,
                           bool_or(a.state = 'completed' AND NOT a.late) AS c,
                           bool_or(a.state IN ('sending', 'unknown',
                                               'accepted')) AS o
                      FROM vidgen.attempts a GROUP BY 1) x ON x.job_id = j.id
             WHERE CASE j.status WHEN 'completed' THEN NOT x.c
                                 WHEN 'failed' THEN x.c
                                 ELSE x.c OR NOT x.o END},
        'a completed job is one of its attempts' => q{
            SELECT j.id FROM video_jobs j
             WHERE j.status = 'completed'
               AND EXISTS (SELECT FROM vidgen.attempts a
                            WHERE a.job_id = j.id)
               AND NOT EXISTS
                   (SELECT FROM vidgen.attempts a
                     WHERE a.job_id = j.id AND a.state = 'completed'
                       AND NOT a.late AND a.provider = j.provider_name
                       AND coalesce(a.provider_job_id = j.provider_job_id,
                                    j.provider_job_id IS NULL)
                       AND a.video_url IS NOT DISTINCT FROM j.video_url)},
    );

    for my $fault (sort keys %faults) {
        my $found = $self->query($faults{$fault});
        Test::More::is(scalar @$found, 0, "$name: $fault")
            or Test::More::diag("id: $found->[0][0]");
    }
}


sub close {
    my ($self) = @_;
    return if $self->{owner} != $$ || !$self->{pid};
    close $self->{in};
    close $self->{out};
    local $?;
    waitpid delete $self->{pid}, 0;
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $@, $!);
    $self->close;
}


1;
